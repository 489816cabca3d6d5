//! stdio: one envelope per line on stdout, one command per line on stdin.
//!
//! One thread of the process writes and one reads, whatever the number of workers: lines must not mix.

mod downlink;
mod input;
mod uplink;
mod writer;

use std::sync::atomic::{AtomicU64, Ordering};

pub use downlink::StdioDownlink;
pub use input::{StdioInput, Undelivered};
pub use uplink::StdioUplink;
pub use writer::StdioWriter;

/// Counts since start.
#[derive(Debug, Default)]
pub struct StdioStats {
    /// Envelopes written and flushed.
    pub stored: AtomicU64,
    /// Envelopes that stdout did not take.
    pub failed: AtomicU64,
    /// Records not taken because stdout is gone.
    pub refused: AtomicU64,
    /// Outcomes handed to the writer.
    pub answers: AtomicU64,
    /// Lines read from stdin, empty ones not counted.
    pub commands: AtomicU64,
}

fn add(counter: &AtomicU64, amount: usize) {
    counter.fetch_add(u64::try_from(amount).unwrap_or(u64::MAX), Ordering::Relaxed);
}
