//! Random numbers for ids and delays: unique is enough, none of them is a secret.

use rand_xoshiro::rand_core::{Rng, SeedableRng};
use rand_xoshiro::{SplitMix64, Xoroshiro128PlusPlus};

/// A generator of numbers that follow from a seed, which the caller draws.
#[derive(Debug, Clone)]
pub struct Random(Xoroshiro128PlusPlus);

impl Random {
    /// A generator for this seed. Two generators must never get the same seed.
    pub fn new(seed: u128) -> Self {
        // Seeds that differ in few bits must not give alike numbers.
        let mut state = [0; 16];
        for (half, seed) in state.chunks_exact_mut(8).zip([(seed >> 64) as u64, seed as u64]) {
            half.copy_from_slice(&SplitMix64::seed_from_u64(seed).next_u64().to_le_bytes());
        }
        Self(Xoroshiro128PlusPlus::from_seed(state))
    }

    /// The next 64 bits.
    #[inline]
    pub fn draw(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// The next number below `bound`, which must not be 0. Small bounds alone: the bias is `bound / 2^64`.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_from_the_seed_and_no_seed_stands_still() {
        for seed in [0, 1, 1 << 64, u128::MAX] {
            let (mut one, mut same) = (Random::new(seed), Random::new(seed));
            let drawn = [(); 3].map(|()| one.draw());
            assert_eq!(drawn, [(); 3].map(|()| same.draw()), "{seed}");
            assert!(drawn[0] != drawn[1] && drawn[1] != drawn[2], "{seed}");
        }
    }
}
