//! Numbers for ids: unique is enough, ids are no secrets.

/// xoroshiro128++ over a seed that the caller draws.
#[derive(Debug, Clone)]
pub struct Random([u64; 2]);

impl Random {
    /// Numbers that follow from the seed. Two generators must never get the same seed.
    pub fn new(seed: u128) -> Self {
        // Seeds that differ in few bits must not give alike numbers, and a state of zero would stay zero.
        Self(match [scramble((seed >> 64) as u64), scramble(seed as u64)] {
            [0, 0] => [1, 0],
            state => state,
        })
    }

    /// The next 64 bits.
    #[inline]
    pub fn draw(&mut self) -> u64 {
        let [a, mut b] = self.0;
        let result = a.wrapping_add(b).rotate_left(17).wrapping_add(a);
        b ^= a;
        self.0 = [a.rotate_left(49) ^ b ^ (b << 21), b.rotate_left(28)];
        result
    }
}

/// The finisher of splitmix64; a bijection.
fn scramble(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
