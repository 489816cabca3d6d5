//! Floods: peers that want nothing but to be in the way of others, and what those others notice.
//!
//! With the bridge that is built for tests they are as strong as that one bears. `make test-floods` gives them an optimised
//! one, makes them as strong as their documentation says, and prints a line of each.
#![expect(clippy::disallowed_methods, reason = "tests own the clock and the sockets")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod commands;
mod datagrams;
mod device;
mod flood;
mod lookups;
mod shares;
mod strangers;
