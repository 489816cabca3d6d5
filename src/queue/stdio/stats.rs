//! Counters of the stdio queue.

use std::sync::atomic::{AtomicU64, Ordering};

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

pub(super) fn add(counter: &AtomicU64, amount: usize) {
    counter.fetch_add(u64::try_from(amount).unwrap_or(u64::MAX), Ordering::Relaxed);
}
