//! Finding keys that an object has twice, without keeping the keys.

/// A number that is the same for equal keys and rarely for others.
#[inline]
pub(super) fn tag(key: &[u8]) -> u64 {
    let mix = |first: u64, last: u64| {
        let product = u128::from(first ^ 0x9e37_79b9_7f4a_7c15) * u128::from(last ^ 0xd1b5_4a32_d192_ed03);
        (product >> 64) as u64 ^ product as u64
    };
    let length = key.len() as u64;
    // Halves that overlap cover every length of their range without a loop.
    match (key.first_chunk::<8>(), key.last_chunk::<8>()) {
        (Some(first), Some(last)) if key.len() <= 16 => {
            mix(u64::from_le_bytes(*first) ^ length, u64::from_le_bytes(*last))
        }
        (Some(_), Some(last)) => {
            let (words, _) = key.as_chunks::<8>();
            let state = words.iter().fold(length, |state, word| mix(state ^ u64::from_le_bytes(*word), length));
            mix(state, u64::from_le_bytes(*last))
        }
        _ => match (key.first_chunk::<4>(), key.last_chunk::<4>()) {
            (Some(first), Some(last)) => {
                mix(u64::from(u32::from_le_bytes(*first)) ^ length << 32, u64::from(u32::from_le_bytes(*last)))
            }
            _ => mix(length, key.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))),
        },
    }
}

/// Whether two of the tags are equal. Takes the fastest way for each number; none is quadratic where it matters.
pub(super) fn has_equal(tags: &mut [u64]) -> bool {
    const EMPTY: u8 = u8::MAX;
    match tags.len() {
        0..=1 => false,
        2..=8 => tags.iter().enumerate().any(|(index, tag)| tags[..index].contains(tag)),
        // A table with open addressing, at most half full. Tags made to collide cost at most 128 steps each.
        9..=128 => {
            let mut table = [EMPTY; 256];
            for (index, tag) in tags.iter().enumerate() {
                let mut slot = (tag >> 56) as usize;
                while table[slot] != EMPTY {
                    if tags[usize::from(table[slot])] == *tag {
                        return true;
                    }
                    slot = (slot + 1) % 256;
                }
                table[slot] = index as u8;
            }
            false
        }
        _ => {
            tags.sort_unstable();
            tags.windows(2).any(|pair| pair[0] == pair[1])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_tags_are_found_among_any_number_of_others() {
        for count in [0, 1, 2, 8, 9, 128, 129, 1000] {
            // The highest byte, which chooses the place in the table, is often the same.
            let tags: Vec<u64> = (0..count).map(|index| index << 54).collect();
            assert!(!has_equal(&mut tags.clone()), "{count}");
            for twice in tags.iter().step_by(7) {
                let mut tags = tags.clone();
                tags.push(*twice);
                assert!(has_equal(&mut tags), "{count} {twice}");
            }
        }
    }

    #[test]
    fn keys_that_differ_anywhere_have_different_tags() {
        for length in [1, 3, 4, 7, 8, 9, 15, 16, 17, 24, 31, 40] {
            let key = vec![b'a'; length];
            for index in 0..length {
                let mut other = key.clone();
                other[index] = b'b';
                assert_ne!(tag(&key), tag(&other), "{length} {index}");
            }
            assert_ne!(tag(&key), tag(&key[1..]), "{length}");
        }
    }
}
