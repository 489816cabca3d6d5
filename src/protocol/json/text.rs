//! Strings: out of their escapes, and into them.

use std::borrow::Cow;

use bytes::BufMut;

use super::plain::plain_length;

/// The text behind what stands between the quotes of a checked JSON string. Borrows when there is no escape.
pub fn unescape(raw: &str) -> Cow<'_, str> {
    let Some(first) = memchr::memchr(b'\\', raw.as_bytes()) else { return Cow::Borrowed(raw) };
    let mut text = String::with_capacity(raw.len());
    text.push_str(&raw[..first]);
    let mut characters = raw[first..].chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        text.push(match characters.next() {
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                let high = hex(&mut characters);
                let code = match high {
                    0xd800..0xdc00 => {
                        characters.by_ref().take(2).for_each(drop);
                        let low = hex(&mut characters);
                        0x10000 + ((high & 0x3ff) << 10) + (low & 0x3ff)
                    }
                    code => code,
                };
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            Some(character) => character,
            None => break,
        });
    }
    Cow::Owned(text)
}

fn hex(characters: &mut std::str::Chars<'_>) -> u32 {
    characters.by_ref().take(4).fold(0, |code, character| code << 4 | character.to_digit(16).unwrap_or_default())
}

/// Writes a text as a JSON string, quotes included.
pub fn write_string(out: &mut impl BufMut, text: &str) {
    out.put_u8(b'"');
    write_escaped(out, text);
    out.put_u8(b'"');
}

/// Writes a text as it stands between the quotes of a JSON string.
pub fn write_escaped(out: &mut impl BufMut, text: &str) {
    let mut rest = text.as_bytes();
    loop {
        let (plain, special) = rest.split_at(plain_length(rest));
        out.put_slice(plain);
        let Some((byte, behind)) = special.split_first() else { return };
        write_escape(out, *byte);
        rest = behind;
    }
}

#[cold]
fn write_escape(out: &mut impl BufMut, byte: u8) {
    match byte {
        b'"' => out.put_slice(b"\\\""),
        b'\\' => out.put_slice(b"\\\\"),
        b'\n' => out.put_slice(b"\\n"),
        b'\r' => out.put_slice(b"\\r"),
        b'\t' => out.put_slice(b"\\t"),
        _ => {
            out.put_slice(b"\\u00");
            out.put_u8(b'0' + (byte >> 4));
            out.put_u8(b"0123456789abcdef"[usize::from(byte & 15)]);
        }
    }
}

/// Whether a terminal, or a viewer of text, obeys the character in the place of showing it: controls (C0, DEL and C1, of
/// which U+009B begins a sequence as ESC does), separators of lines and paragraphs, and marks that turn the direction in
/// which text around them is shown. All are below U+10000, so JSON may write each as one `\u` and four digits.
pub fn must_be_escaped(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_survives_writing_and_reading() {
        for code in (0..0x3000).chain(0xe000..0xe010).chain(0x1f600..0x1f610) {
            let Some(character) = char::from_u32(code) else { continue };
            let text = format!("a{character}b");
            let mut written = Vec::new();
            write_string(&mut written, &text);
            assert_eq!(serde_json::from_slice::<String>(&written).ok().as_deref(), Some(text.as_str()));
            let written = String::from_utf8(written).expect("JSON is UTF-8");
            assert_eq!(unescape(&written[1..written.len() - 1]), text);
        }
    }

    #[test]
    fn every_escape_is_read() {
        assert_eq!(unescape(r#"\"\\\/\b\f\n\r\t\u0041\ud83d\ude00\u4e2d!"#), "\"\\/\u{8}\u{c}\n\r\tA😀中!");
        assert!(matches!(unescape("plain"), Cow::Borrowed("plain")));
    }

    #[test]
    fn what_moves_a_cursor_or_turns_text_is_escaped_and_words_are_not() {
        for c in
            "\0\t\n\r\u{1b}\u{7f}\u{80}\u{85}\u{9b}\u{9d}\u{9f}\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\
                  \u{2066}\u{2069}"
                .chars()
        {
            assert!(must_be_escaped(c), "{c:?}");
        }
        for c in " ~\u{a0}é温度温‰\u{200b}\u{200d}\u{2027}\u{202f}\u{2065}\u{206a}\u{feff}😀".chars() {
            assert!(!must_be_escaped(c), "{c:?}");
        }
    }
}
