//! Faults under load: what each costs, judged by the ledger of the devices, by presence and by the outcomes of commands.
//!
//! `make test-faults` runs them one after another and prints a row of each; they are no part of `make test`.
#![expect(clippy::disallowed_methods, reason = "tests own the clock")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod driver;
mod evidence;
mod kafka;
mod kafka_cluster;
mod kafka_network;
mod nats;
mod nats_rights;
mod nats_store;
mod network;
mod preload;
mod process;
