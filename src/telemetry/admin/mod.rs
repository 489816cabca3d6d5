//! The HTTP listener for operators: probes, metrics, sessions, the level of the log.
//!
//! Everything is bounded: 64 connections of a listener, one request each, 16 KiB of head, 10 seconds for the whole
//! exchange. One connection more closes the oldest that has said nothing yet, so that no probe waits for silent peers. Of
//! request bodies only those of `/api/log` and `/api/shed` are read, 4 KiB of each. Answers that go on while something
//! happens have bounds of their own ([`stream`]): 16 of them, each for a time that it names.

mod access;
mod answer;
mod follow;
mod query;
mod server;
mod sessions;
mod shed;
mod stream;

#[cfg(test)]
mod tests;

pub use answer::Admin;
pub use follow::{FOLLOW_MAX, FollowOrder, Follows, LineStream, TRACE_DEFAULT, TooMany};
pub use server::{CONNECTIONS_MAX, serve};
pub use sessions::{Page, ReplicaTotal, Replicas, SessionInfo, SessionQuery, Sessions, Waiting};
pub use shed::{RATE_DEFAULT, RATE_MAX, ReplicaShed, ShedAim, ShedOrder, ShedRefusal, ShedReport, Sheds};
pub use stream::{STREAMS_MAX, StreamRoom};
