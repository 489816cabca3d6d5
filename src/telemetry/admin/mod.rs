//! The HTTP listener for operators: probes, metrics, sessions.
//!
//! Everything is bounded: 64 connections, one request each, 16 KiB of head, 10 seconds for the whole exchange. Request
//! bodies are not read.

mod answer;
mod server;
mod sessions;

#[cfg(test)]
mod tests;

pub use answer::Admin;
pub use server::{bind, serve};
pub use sessions::{Page, SessionInfo, Sessions, Waiting};
