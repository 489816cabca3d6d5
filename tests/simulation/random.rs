//! Numbers that follow from the seed of a run: whatever is drawn is drawn here, so a seed is a run.

use jetlinks_bridge::protocol::random;

/// Draws numbers.
#[derive(Debug)]
pub(crate) struct Random(random::Random);

impl Random {
    /// The draws of that seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(random::Random::new(u128::from(seed) << 64 | 0x51e7))
    }

    /// A number below that one.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.0.draw() % end.max(1) as u64).expect("below a usize")
    }

    /// A number from `low` to `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.0.draw() % (high - low + 1)
    }

    /// Whether something happens that does so often in 1,000.
    pub(crate) fn happens(&mut self, in_1000: u64) -> bool {
        self.0.draw() % 1000 < in_1000
    }

    /// One of the items.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> Option<T> {
        let index = self.below(items.len());
        items.get(index).copied()
    }
}
