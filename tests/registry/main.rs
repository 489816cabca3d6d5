//! Registries over the network, the real bridge before them and real devices behind it.
#![expect(clippy::disallowed_methods, reason = "tests own the clock and the sockets")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod devices;
mod door;
mod http;
mod memory;
mod nats;
