//! The programs of docs/examples, in each language, against real servers, the real bridge and devices.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod command;
mod consume;
mod presence;
mod program;
mod recorded;
