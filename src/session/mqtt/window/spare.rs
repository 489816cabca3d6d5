//! Buffers for one entry that empty windows have given back, shared by the sessions of a worker.
//!
//! A device that waits for each acknowledgement needs a buffer for each message. When hundreds of devices send at once, glibc
//! takes and frees that many through its slow path: its cache of a thread holds seven of a size.

use std::collections::VecDeque;

use super::Entry;

/// Most buffers, about 200 bytes each.
const BUFFERS_MAX: usize = 8192;

/// Empty buffers of one worker, which its sessions share.
#[derive(Debug, Default)]
pub struct SpareBuffers(Vec<VecDeque<Entry>>);

impl SpareBuffers {
    /// A buffer for one entry; one without any memory if there is none.
    pub(super) fn take(&mut self) -> VecDeque<Entry> {
        self.0.pop().unwrap_or_default()
    }

    /// Keeps an empty buffer if it is for one entry and there is room; else it is freed.
    pub(super) fn give(&mut self, buffer: VecDeque<Entry>) {
        if buffer.capacity() == 1 && self.0.len() < BUFFERS_MAX {
            self.0.push(buffer);
        }
    }

    /// Number of buffers.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_bounded() {
        let mut spare = SpareBuffers::default();
        (0..=BUFFERS_MAX).for_each(|_| spare.give(VecDeque::with_capacity(1)));
        assert_eq!(spare.count(), BUFFERS_MAX);
    }
}
