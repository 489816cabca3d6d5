//! Identifiers that sort by the time of their making (ULID).

use std::fmt;

use super::random::Random;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Length of a ULID as text.
pub const ULID_TEXT_BYTES: usize = 26;

/// A ULID: 48 bits of milliseconds since 1970, then 80 random bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ulid(u128);

impl Ulid {
    /// The 26 characters of Crockford's base 32, upper case.
    pub fn to_text(self) -> [u8; ULID_TEXT_BYTES] {
        let mut text = [0; ULID_TEXT_BYTES];
        let (time, entropy) = text.split_at_mut(10);
        let (high, low) = entropy.split_at_mut(8);
        // 10 characters hold 50 bits, two more than the time has.
        write_digits(time, (self.0 >> 80) as u64);
        write_digits(high, (self.0 >> 40) as u64 & 0xff_ffff_ffff);
        write_digits(low, self.0 as u64 & 0xff_ffff_ffff);
        text
    }

    /// The time of its making, ms since 1970.
    pub fn timestamp_ms(self) -> u64 {
        (self.0 >> 80) as u64
    }
}

fn write_digits(text: &mut [u8], mut number: u64) {
    for digit in text.iter_mut().rev() {
        *digit = ALPHABET[(number & 31) as usize];
        number >>= 5;
    }
}

impl fmt::Display for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_text().iter().try_for_each(|character| fmt::Write::write_char(f, char::from(*character)))
    }
}

/// Makes ULIDs of which each is greater than the one before, even when the clock stands still or goes back.
#[derive(Debug, Clone)]
pub struct UlidGenerator {
    last: u128,
    random: Random,
}

impl UlidGenerator {
    /// A generator whose random bits follow from the seed. Two generators must never get the same seed.
    pub fn new(seed: u128) -> Self {
        Self { last: 0, random: Random::new(seed) }
    }

    /// The next ULID, made at `now_ms` (ms since 1970, the lowest 48 bits count).
    pub fn generate(&mut self, now_ms: u64) -> Ulid {
        let time = u128::from(now_ms & 0xffff_ffff_ffff) << 80;
        self.last = if time >> 80 > self.last >> 80 {
            // The highest random bit stays clear: 2^79 ULIDs fit into one ms before the time would be touched.
            let random = u128::from(self.random.draw() & 0x7fff) << 64 | u128::from(self.random.draw());
            time | random
        } else {
            self.last + 1
        };
        Ulid(self.last)
    }

    /// The ULID that was made last.
    pub fn last(&self) -> Ulid {
        Ulid(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_crockfords_base_32_of_the_128_bits() {
        assert_eq!(Ulid(0).to_string(), "0".repeat(26));
        assert_eq!(Ulid(u128::MAX).to_string(), format!("7{}", "Z".repeat(25)));
        for number in [1, 0x0158_5f0d_5f2c_4c4b_0000_1234_5678_9abc, 1 << 80, 1 << 40, 0xff_ffff_ffff] {
            assert_eq!(Ulid(number).to_string(), reference(number));
        }
    }

    fn reference(mut number: u128) -> String {
        let mut text = Vec::new();
        for _ in 0..26 {
            text.push(char::from(ALPHABET[(number % 32) as usize]));
            number /= 32;
        }
        text.iter().rev().collect()
    }

    #[test]
    fn ulids_grow_while_the_clock_stands_still_or_goes_back() {
        let mut generator = UlidGenerator::new(7);
        let mut last = generator.generate(1_601_196_762_389);
        assert_eq!(last.timestamp_ms(), 1_601_196_762_389);
        for now_ms in [1_601_196_762_389, 1_601_196_762_389, 1_601_196_762_000, 0, 1_601_196_762_390] {
            let next = generator.generate(now_ms);
            assert!(next > last && next.to_string() > last.to_string());
            last = next;
        }
    }

    #[test]
    fn generators_with_different_seeds_give_different_ulids_in_the_same_millisecond() {
        let mut seen = std::collections::HashSet::new();
        for seed in 0..1000_u128 {
            assert!(seen.insert(UlidGenerator::new(seed << 64).generate(1)), "seed {seed} << 64");
            if seed > 0 {
                assert!(seen.insert(UlidGenerator::new(seed).generate(1)), "seed {seed}");
            }
        }
    }
}
