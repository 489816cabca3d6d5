//! Finding the end of what stands in a JSON string as it is.

/// Bytes up to the first quote, backslash or control character: what a JSON string has as it is (RFC 8259 section 7).
#[inline]
pub(super) fn plain_length(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        match special(u64::from_le_bytes(*chunk)) {
            0 => at += 8,
            marks => return at + (marks.trailing_zeros() / 8) as usize,
        }
        // Long texts go on in larger steps.
        if at == 24 {
            while let Some(chunk) = bytes[at..].first_chunk::<32>() {
                if chunk.iter().fold(false, |any, byte| any | is_special(*byte)) {
                    break;
                }
                at += 32;
            }
        }
    }
    let rest = &bytes[at..];
    at + rest.iter().position(|byte| is_special(*byte)).unwrap_or(rest.len())
}

#[inline]
fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Marks the highest bit of each byte that is a quote, a backslash or a control character; the lowest mark is exact.
#[inline]
fn special(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let quote = quote.wrapping_sub(ONES) & !quote;
    let backslash = backslash.wrapping_sub(ONES) & !backslash;
    (control | quote | backslash) & HIGHS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_special_byte_is_found_at_every_place_and_nothing_else_is() {
        for length in 0..100 {
            let mut bytes = vec![b'x'; length];
            assert_eq!(plain_length(&bytes), length);
            for place in 0..length {
                for byte in 0..=u8::MAX {
                    bytes[place] = byte;
                    let expected = if byte < 0x20 || b"\"\\".contains(&byte) { place } else { length };
                    assert_eq!(plain_length(&bytes), expected, "{byte} at {place} of {length}");
                }
                bytes[place] = if place % 2 == 0 { 0x7f } else { 0xff };
            }
        }
    }
}
