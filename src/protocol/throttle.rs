//! Bounds on how often something is said.

use std::time::{Duration, Instant};

/// Lets one event through per period, or several at once after silence, and counts the others.
#[derive(Debug)]
pub struct Throttle {
    period: Duration,
    burst: u32,
    /// When as many events as may come at once will be allowed again; `None` before the first event.
    full_at: Option<Instant>,
    suppressed: u64,
}

impl Throttle {
    /// One event per period.
    pub fn new(period: Duration) -> Self {
        Self::with_burst(period, 1)
    }

    /// One event per period, and `burst` events at once after as many periods of silence.
    pub fn with_burst(period: Duration, burst: u32) -> Self {
        Self { period, burst, full_at: None, suppressed: 0 }
    }

    /// `Some` with the number of events suppressed since the last one that passed, when this one may pass.
    pub fn pass(&mut self, now: Instant) -> Option<u64> {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + self.period;
        if full_at.saturating_duration_since(now) > self.period * self.burst {
            self.suppressed += 1;
            return None;
        }
        self.full_at = Some(full_at);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any moment does as the first one")]
mod tests {
    use super::*;

    #[test]
    fn one_event_passes_per_period_and_tells_how_many_did_not() {
        let start = Instant::now();
        let mut throttle = Throttle::new(Duration::from_secs(10));
        assert_eq!(throttle.pass(start), Some(0));
        assert_eq!(throttle.pass(start + Duration::from_secs(1)), None);
        assert_eq!(throttle.pass(start + Duration::from_secs(9)), None);
        assert_eq!(throttle.pass(start + Duration::from_secs(10)), Some(2));
    }

    #[test]
    fn after_silence_a_burst_passes_and_then_one_event_per_period() {
        let start = Instant::now();
        let mut throttle = Throttle::with_burst(Duration::from_millis(100), 20);
        let passed = |at_ms: u64| (0..100).filter_map(|_| throttle.pass(start + Duration::from_millis(at_ms))).count();
        assert_eq!([0, 50, 100, 250, 10_000].map(passed), [20, 0, 1, 1, 20]);
    }
}
