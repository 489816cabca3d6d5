//! Pauses between attempts.

use std::time::Duration;

/// First pause at its longest.
const FIRST: Duration = Duration::from_millis(50);

/// No pause is longer, so a queue that is back is found within two seconds.
const CEILING: Duration = Duration::from_secs(2);

/// Doubling pauses with jitter: each lies between half and all of a bound that doubles from 50 ms to 2 s, so that
/// replicas which lost the same server do not return in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    attempts: u32,
    state: u64,
}

impl Backoff {
    /// Starts with the shortest pause.
    pub(crate) fn new() -> Self {
        Self { attempts: 0, state: seed() }
    }

    /// The next pause.
    pub(crate) fn pause(&mut self) -> Duration {
        let bound = bound(self.attempts);
        self.attempts = self.attempts.saturating_add(1);
        self.state = scramble(self.state);
        jitter(bound, self.state)
    }

    /// Starts over, after a success.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The pause before attempt number `attempt`, for clients that count by themselves; the first attempt is 1.
    pub(crate) fn pause_before(attempt: usize) -> Duration {
        let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        jitter(bound(doublings), seed())
    }
}

fn bound(doublings: u32) -> Duration {
    FIRST.saturating_mul(1 << doublings.min(16)).min(CEILING)
}

fn jitter(bound: Duration, random: u64) -> Duration {
    let half = bound / 2;
    let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
    half + Duration::from_micros(random % micros.max(1))
}

fn seed() -> u64 {
    // Without randomness there is no jitter, which costs politeness and nothing else.
    getrandom::u64().unwrap_or(1)
}

fn scramble(state: u64) -> u64 {
    // A linear congruential step (Knuth's constants), folded because its low bits are weak.
    let next = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    next ^ (next >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_two_seconds_and_start_over_after_a_success() {
        let mut backoff = Backoff::new();
        for bound_ms in [50, 100, 200, 400, 800, 1600, 2000, 2000] {
            let bound = Duration::from_millis(bound_ms);
            let pause = backoff.pause();
            assert!(pause >= bound / 2 && pause <= bound, "{pause:?} for {bound:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= FIRST);
        assert!(Backoff::pause_before(usize::MAX) <= CEILING);
    }
}
