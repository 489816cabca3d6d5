//! The age at which a session is ended, so that its device connects again, to whichever replica takes it.

use crate::protocol::limit::Now;
use crate::protocol::random::Random;

/// The age limit of sessions. Each session gets an age of its own, from 90 % to 110 % of the limit: devices that came together do
/// not go together.
#[derive(Debug)]
pub(super) struct AgeLimit {
    max_us: Option<u64>,
    random: Random,
}

impl AgeLimit {
    /// A limit of so many us; `None`: sessions may stay. `seed` is the random seed of the worker's session ids.
    pub(super) fn new(max_us: Option<u64>, seed: u128) -> Self {
        // The ids follow from the seed itself.
        Self { max_us, random: Random::new(!seed) }
    }

    /// Time at which a session that begins now is ended, us of the worker's clock; `u64::MAX` for never.
    pub(super) fn end_us(&mut self, now: Now) -> u64 {
        let Some(max_us) = self.max_us else { return u64::MAX };
        let age_us = max_us - max_us / 10 + self.random.below(max_us / 5 + 1);
        now.us.saturating_add(age_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { unix_ms: 0, us: 1_000_000 };

    #[test]
    fn ages_are_spread_evenly_over_a_fifth_of_the_limit() {
        let mut limit = AgeLimit::new(Some(100_000), 7);
        let mut tenths = [0; 10];
        for _ in 0..10_000 {
            let age_us = limit.end_us(NOW) - NOW.us;
            assert!((90_000..=110_000).contains(&age_us), "{age_us}");
            tenths[((age_us - 90_000) / 2_000).min(9) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (800..1_200).contains(count)), "{tenths:?}");
    }

    #[test]
    fn without_a_limit_a_session_is_never_too_old() {
        assert_eq!(AgeLimit::new(None, 7).end_us(NOW), u64::MAX);
    }
}
