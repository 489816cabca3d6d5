//! The HTTP listener for operators: probes, metrics, sessions, commands, the level of the log, and a page that shows them.
//!
//! Everything is bounded: 64 connections of a listener, one request each, 16 KiB of head, 10 seconds for the whole
//! exchange. One connection more closes the oldest that has said nothing yet, so that no probe waits for silent peers. Of
//! request bodies only those of `/api/log` and `/api/shed` are read, 4 KiB of each, and of `/api/commands`, 64 KiB. Answers that go on while something
//! happens have bounds of their own ([`STREAMS_MAX`]): 16 of them, each for a time that it names.

mod access;
mod answer;
mod commands;
mod console;
mod follow;
mod overview;
mod query;
mod server;
mod sessions;
mod shed;
mod stream;

#[cfg(test)]
mod page_tests;
#[cfg(test)]
mod tests;

pub use answer::Admin;
pub use commands::{COMMAND_BYTES_MAX, CommandRefusal, Commands, SentCommand};
pub use follow::{FOLLOW_MAX, FollowOrder, Follows, LineStream, TRACE_DEFAULT, TooMany};
pub use overview::{Deployment, Place};
pub use server::{CONNECTIONS_MAX, serve};
pub use sessions::{Page, ReplicaTotal, Replicas, SessionInfo, SessionQuery, Sessions, Waiting};
pub use shed::{RATE_DEFAULT, RATE_MAX, ReplicaShed, ShedAim, ShedOrder, ShedRefusal, ShedReport, Sheds};
pub use stream::STREAMS_MAX;
