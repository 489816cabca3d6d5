//! The worker's clocks.
#![expect(clippy::disallowed_methods, reason = "the one place where the device side reads the time")]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::protocol::limit::Now;

/// Reads both clocks at once.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// A clock whose monotonic side starts now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// The time at this moment. A system clock before 1970 reads as 1970.
    #[expect(clippy::cast_possible_truncation, reason = "64 bits of us are 584,000 years")]
    pub fn now(&self) -> Now {
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        Now { unix_ms, us: self.start.elapsed().as_micros() as u64 }
    }
}
