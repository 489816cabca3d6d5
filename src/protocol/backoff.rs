//! Pauses between attempts.

use std::time::Duration;

use super::random::Random;

/// Doubling pauses with jitter: each lies between half and all of a bound that doubles up to a ceiling, so that processes
/// which lost the same server do not return in step.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    ceiling: Duration,
    attempts: u32,
    random: Random,
}

impl Backoff {
    /// Bounds from `first` to `ceiling`. The jitter follows from the seed.
    pub fn new(first: Duration, ceiling: Duration, seed: u128) -> Self {
        Self { first, ceiling, attempts: 0, random: Random::new(seed) }
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let bound = self.first.saturating_mul(1 << self.attempts.min(16)).min(self.ceiling);
        self.attempts = self.attempts.saturating_add(1);
        let half = bound / 2;
        let half_us = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        half + Duration::from_micros(self.random.draw() % half_us.max(1))
    }

    /// Starts over, after a success.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The pause before attempt number `attempt`, for clients that count by themselves; the first attempt is 1.
    pub fn pause_before(mut self, attempt: usize) -> Duration {
        self.attempts = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        self.pause()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_the_ceiling_and_start_over_after_a_success() {
        let (first, ceiling) = (Duration::from_millis(50), Duration::from_secs(2));
        let mut backoff = Backoff::new(first, ceiling, 1);
        for bound_ms in [50, 100, 200, 400, 800, 1600, 2000, 2000] {
            let bound = Duration::from_millis(bound_ms);
            let pause = backoff.pause();
            assert!(pause >= bound / 2 && pause <= bound, "{pause:?} for {bound:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= first);
        assert!(backoff.clone().pause_before(1) <= first);
        assert!(backoff.pause_before(usize::MAX) <= ceiling);
    }
}
