//! The contract as machines read it: foreign programs read what the real bridge writes to real queues, by the published
//! schemas and by CloudEvents alone.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod commands;
mod documents;
mod foreign;
mod schemas;
mod sdks;
mod stage;
