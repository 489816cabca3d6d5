//! The HTTP listener for operators: probes, metrics, sessions, the level of the log.
//!
//! Everything is bounded: 64 connections of a listener, one request each, 16 KiB of head, 10 seconds for the whole
//! exchange. One connection more closes the oldest that has said nothing yet, so that no probe waits for silent peers. Of
//! request bodies only that of `/api/log` is read, 4 KiB of it.

mod access;
mod answer;
mod server;
mod sessions;

#[cfg(test)]
mod tests;

pub use answer::Admin;
pub use server::{CONNECTIONS_MAX, serve};
pub use sessions::{Page, SessionInfo, Sessions, Waiting};
