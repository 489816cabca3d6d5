//! A rate of events, with a small burst.

/// A token bucket: so many a second, with a burst of a tenth of a second's worth.
#[derive(Debug)]
pub struct Bucket {
    per_second: u64,
    tokens_us: u64,
    filled_us: u64,
}

impl Bucket {
    /// A full bucket; a rate of 0 counts as 1.
    pub fn new(per_second: u64, now_us: u64) -> Self {
        let per_second = per_second.max(1);
        Self { per_second, tokens_us: Self::burst_us(per_second), filled_us: now_us }
    }

    /// Takes one, or says after how many us one will be there.
    pub fn take(&mut self, now_us: u64) -> Result<(), u64> {
        let cost_us = 1_000_000 / self.per_second;
        let gained_us = now_us.saturating_sub(self.filled_us);
        self.filled_us = now_us;
        self.tokens_us = (self.tokens_us + gained_us).min(Self::burst_us(self.per_second));
        match self.tokens_us.checked_sub(cost_us) {
            Some(rest) => {
                self.tokens_us = rest;
                Ok(())
            }
            None => Err(cost_us - self.tokens_us),
        }
    }

    /// Gives one back that was taken for nothing.
    pub fn give_back(&mut self) {
        self.tokens_us = (self.tokens_us + 1_000_000 / self.per_second).min(Self::burst_us(self.per_second));
    }

    fn burst_us(per_second: u64) -> u64 {
        (1_000_000 / per_second).max(100_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_its_rate_through_and_no_more() {
        let mut bucket = Bucket::new(1000, 0);
        let taken = (0..1_000_000).filter(|&now_us| bucket.take(now_us).is_ok()).count();
        assert!((1_000..=1_101).contains(&taken), "{taken} in a second at 1,000 a second");
        let refused = (0..2).filter_map(|_| bucket.take(1_000_000).err()).next_back();
        assert!(refused.is_some_and(|wait_us| (1..=1_000).contains(&wait_us)), "{refused:?}");
    }

    #[test]
    fn what_is_given_back_can_be_taken_at_once_and_never_exceeds_the_burst() {
        let mut bucket = Bucket::new(1, 0);
        assert!(bucket.take(0).is_ok() && bucket.take(0).is_err());
        bucket.give_back();
        bucket.give_back();
        assert!(bucket.take(0).is_ok() && bucket.take(0).is_err());
    }
}
