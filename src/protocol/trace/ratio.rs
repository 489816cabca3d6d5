//! How much is exported.

/// A share of traces, from none (the default) to all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SampleRatio(u64);

impl SampleRatio {
    /// All traces: ids have 63 bits that decide.
    const ALL: u64 = 1 << 63;

    /// The share; `None` outside 0 to 1.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 2^63, and whole enough")]
    #[expect(clippy::cast_precision_loss, reason = "2^63 is exact")]
    pub fn new(share: f64) -> Option<Self> {
        (0.0..=1.0).contains(&share).then_some(Self((share * Self::ALL as f64) as u64))
    }

    /// Whether a trace is among them, by the second half of its id. Everybody who decides so decides alike: it is what
    /// `TraceIdRatioBased` does elsewhere.
    #[inline]
    pub fn takes(self, id: u64) -> bool {
        id >> 1 < self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::random::Random;

    #[test]
    fn none_all_and_a_share_are_what_they_say() {
        let taken = |share: f64| {
            let ratio = SampleRatio::new(share).expect("a share");
            let mut random = Random::new(1);
            (0..100_000).filter(|_| ratio.takes(random.draw())).count()
        };
        assert_eq!((taken(0.0), taken(1.0)), (0, 100_000));
        assert!((900..1_100).contains(&taken(0.01)), "{}", taken(0.01));
        assert!(SampleRatio::new(1.0).is_some_and(|all| all.takes(u64::MAX)));
    }

    #[test]
    fn what_is_no_share_is_none() {
        for share in [-0.1, 1.000_001, f64::NAN, f64::INFINITY] {
            assert_eq!(SampleRatio::new(share), None, "{share}");
        }
    }
}
