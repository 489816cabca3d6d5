//! Texts in packets: which are allowed, and which of them name topics and filters.

use super::decode::Malformed;

/// Splits a length-prefixed text off the front: UTF-8 (MQTT-1.5.3-1) without U+0000 (MQTT-1.5.3-2), and without the
/// characters for which a receiver may close the connection (MQTT 3.1.1, 1.5.3): control characters and non-characters.
/// MQTT 3.1 asks for UTF-8 alone; nothing that a device means is lost by holding it to the same.
pub(super) fn split_text(bytes: &[u8]) -> Result<(&str, &[u8]), Malformed> {
    let (text, rest) = split_binary(bytes).ok_or(Malformed::Body)?;
    let is_plain = is_plain(text);
    let text = std::str::from_utf8(text).map_err(|_| Malformed::Text)?;
    if is_plain || !text.contains(is_forbidden) { Ok((text, rest)) } else { Err(Malformed::Text) }
}

/// As [`split_text`], for the name of a topic: not empty (MQTT-4.7.3-1), and without wildcards (MQTT-3.3.2-2).
pub(super) fn split_topic(bytes: &[u8]) -> Result<(&str, &[u8]), Malformed> {
    let (text, rest) = split_binary(bytes).ok_or(Malformed::Body)?;
    let is_plain = is_plain(text);
    let text = std::str::from_utf8(text).map_err(|_| Malformed::Text)?;
    if text.is_empty() {
        return Err(Malformed::Topic);
    }
    if !is_plain {
        if text.contains(is_forbidden) {
            return Err(Malformed::Text);
        }
        if text.contains(['+', '#']) {
            return Err(Malformed::Topic);
        }
    }
    Ok((text, rest))
}

/// As [`split_text`], for a filter: not empty (MQTT-4.7.3-1), `#` fills the last level (MQTT-4.7.1-2), `+` a whole one
/// (MQTT-4.7.1-3).
pub(super) fn split_filter(bytes: &[u8]) -> Result<(&str, &[u8]), Malformed> {
    let (filter, rest) = split_text(bytes)?;
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let has_wildcard = level.contains(['+', '#']);
        if has_wildcard && level.len() > 1 || level == "#" && levels.peek().is_some() {
            return Err(Malformed::Filter);
        }
    }
    if filter.is_empty() { Err(Malformed::Filter) } else { Ok((filter, rest)) }
}

/// Splits length-prefixed bytes off the front.
pub(super) fn split_binary(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// Whether all of it is printable ASCII without wildcards, as nearly every topic is: one pass, which the compiler makes of
/// whole vectors as nothing in it branches.
fn is_plain(text: &[u8]) -> bool {
    let is_other = |byte: u8| byte.wrapping_sub(b' ') > b'~' - b' ' || byte == b'+' || byte == b'#';
    !text.iter().fold(false, |found, &byte| found | is_other(byte))
}

/// Control characters, U+0000 among them, and the code points that Unicode keeps for no character.
fn is_forbidden(character: char) -> bool {
    let code = u32::from(character);
    character.is_control() || (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).expect("tests use short texts");
        [&length.to_be_bytes(), content].concat()
    }

    #[test]
    fn code_points_are_judged_as_the_specification_lists_it_wherever_it_stands() {
        let ends_of_planes = (1..=0x11).flat_map(|plane| (plane << 16) - 4..(plane << 16) + 4);
        for character in (0..0x1_0000).chain(ends_of_planes).filter_map(char::from_u32) {
            let code = u32::from(character);
            let is_listed = matches!(code, 0..=0x1f | 0x7f..=0x9f | 0xfdd0..=0xfdef)
                || (0..=0x10).any(|plane| code == plane << 16 | 0xfffe || code == plane << 16 | 0xffff);
            // Before and behind as much as a vector holds.
            for around in ["", "0123456789abcdef0123456789abcdef"] {
                let text = format!("{around}{character}{around}");
                let bytes = field(text.as_bytes());
                let expected = if is_listed { Err(Malformed::Text) } else { Ok((text.as_str(), &[][..])) };
                assert_eq!(split_text(&bytes), expected, "U+{code:04X}");
            }
        }
    }

    #[test]
    fn the_name_of_a_topic_is_neither_empty_nor_has_it_wildcards_wherever_they_stand() {
        for length in 0..70 {
            let plain = "/".repeat(length);
            let bytes = field(plain.as_bytes());
            let expected = if length == 0 { Err(Malformed::Topic) } else { Ok((plain.as_str(), &[][..])) };
            assert_eq!(split_topic(&bytes), expected);
            for at in 0..length {
                for (byte, expected) in [
                    (b'+', Malformed::Topic),
                    (b'#', Malformed::Topic),
                    (0x1f, Malformed::Text),
                    (0xc0, Malformed::Text),
                ] {
                    let mut bytes = bytes.clone();
                    bytes[2 + at] = byte;
                    assert_eq!(split_topic(&bytes), Err(expected), "{byte} at {at} of {length}");
                }
            }
        }
    }

    #[test]
    fn wildcards_of_a_filter_fill_their_level_and_the_multi_level_one_is_the_last() {
        for (filter, is_one) in [
            ("/p/d/#", true),
            ("#", true),
            ("+", true),
            ("+/+/#", true),
            ("/p/+/x", true),
            ("/", true),
            ("/p//x", true),
            ("", false),
            ("/p/#/x", false),
            ("/p/#/", false),
            ("/p/a+", false),
            ("/p/+a/x", false),
            ("/p/++", false),
            ("/p/d#", false),
            ("#a#", false),
            ("##", false),
            ("+#", false),
        ] {
            let bytes = field(filter.as_bytes());
            let expected = if is_one { Ok((filter, &[][..])) } else { Err(Malformed::Filter) };
            assert_eq!(split_filter(&bytes), expected, "{filter}");
        }
    }
}
