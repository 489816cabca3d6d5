//! Identifiers that sort by the time of their making (ULID).

use ulid::{ULID_LEN, Ulid};

use super::random::Random;

/// Length of a ULID as text.
pub const ULID_TEXT_BYTES: usize = ULID_LEN;

/// A generator of ULIDs of which each is greater than the one before, even when the clock stands still or goes back.
#[derive(Debug, Clone)]
pub struct UlidGenerator {
    last: Ulid,
    random: Random,
}

impl UlidGenerator {
    /// A generator whose random bits follow from the seed. Two generators must never get the same seed.
    pub fn new(seed: u128) -> Self {
        Self { last: Ulid::nil(), random: Random::new(seed) }
    }

    /// The next ULID, made at `now_ms` (ms since 1970, the lowest 48 bits count).
    pub fn generate(&mut self, now_ms: u64) -> Ulid {
        let now_ms = now_ms & 0xffff_ffff_ffff;
        self.last = if now_ms > self.last.timestamp_ms() {
            // The highest random bit stays clear: 2^79 ULIDs fit into one ms before the time would be touched.
            let random = u128::from(self.random.draw() & 0x7fff) << 64 | u128::from(self.random.draw());
            Ulid::from_parts(now_ms, random)
        } else {
            Ulid(self.last.0 + 1)
        };
        self.last
    }

    /// The ULID that was made last.
    pub fn last(&self) -> Ulid {
        self.last
    }
}

/// The 26 characters of a ULID.
pub fn text(ulid: Ulid) -> [u8; ULID_TEXT_BYTES] {
    let mut text = [0; ULID_TEXT_BYTES];
    ulid.array_to_str(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_crockfords_base_32_of_the_128_bits() {
        assert_eq!(text(Ulid(0)), [b'0'; 26]);
        assert_eq!(Ulid(u128::MAX).to_string(), format!("7{}", "Z".repeat(25)));
        for number in [1, 0x0158_5f0d_5f2c_4c4b_0000_1234_5678_9abc, 1 << 80, 1 << 40, 0xff_ffff_ffff] {
            assert_eq!(Ulid(number).to_string(), reference(number));
            assert_eq!(text(Ulid(number)), reference(number).as_bytes());
        }
    }

    fn reference(mut number: u128) -> String {
        const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
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
