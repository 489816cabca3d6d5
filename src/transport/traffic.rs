//! Bytes of a worker's devices.

use std::cell::Cell;

/// Bytes from and to devices since the start, as far as they went over the sockets of one worker. Shared by all that
/// read and write there.
#[derive(Debug, Default)]
pub struct Traffic {
    received: Cell<u64>,
    sent: Cell<u64>,
}

impl Traffic {
    /// Counts bytes that came.
    pub fn note_received(&self, bytes: usize) {
        self.received.set(self.received.get().wrapping_add(bytes as u64));
    }

    /// Counts bytes that the socket took.
    pub fn note_sent(&self, bytes: usize) {
        self.sent.set(self.sent.get().wrapping_add(bytes as u64));
    }

    /// Bytes that came.
    pub fn received(&self) -> u64 {
        self.received.get()
    }

    /// Bytes that left.
    pub fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// Counts what another has counted, too.
    pub fn add(&self, other: &Traffic) {
        self.received.set(self.received.get().wrapping_add(other.received.get()));
        self.sent.set(self.sent.get().wrapping_add(other.sent.get()));
    }
}
