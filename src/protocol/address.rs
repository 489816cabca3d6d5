//! Ids inside NATS subjects and URI references.

use std::borrow::Cow;

use bytes::BufMut;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// Longest NATS subject that is written, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 1024;

/// Bytes that are encoded in a token of a NATS subject.
const TOKEN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-');

/// Bytes that are encoded in a segment of a URI's path: all but the unreserved characters of RFC 3986, 2.3.
const SEGMENT: &AsciiSet = &TOKEN.remove(b'.').remove(b'~');

/// Writes an id as exactly one token of a NATS subject: bytes outside `A-Z a-z 0-9 _ -` are percent-encoded. Two ids
/// never give the same token.
pub fn write_token(out: &mut impl BufMut, id: &str) {
    const PLAIN: [bool; 256] = plain(b"_-");
    write_encoded(out, id, TOKEN, &PLAIN);
}

/// Writes an id as one segment of a URI's path: bytes outside RFC 3986's unreserved ones are percent-encoded.
pub fn write_segment(out: &mut impl BufMut, id: &str) {
    const PLAIN: [bool; 256] = plain(b"_-.~");
    write_encoded(out, id, SEGMENT, &PLAIN);
}

/// An id as a token; see [`write_token`].
pub fn token(id: &str) -> String {
    percent_encode(id.as_bytes(), TOKEN).to_string()
}

/// An id as one segment of a URI's path; see [`write_segment`].
pub fn segment(id: &str) -> String {
    percent_encode(id.as_bytes(), SEGMENT).to_string()
}

/// Where a command goes, as NATS has it below `command` of the prefix: `p.d.properties.read`, for a child `p.g.child.c.properties.read`.
/// `dotted` is the type.
pub fn command_address(product: &str, device: &str, children: &[impl AsRef<str>], dotted: &str) -> String {
    let mut address = format!("{}.{}", token(product), token(device));
    for child in children {
        address.push_str(".child.");
        address.push_str(&token(child.as_ref()));
    }
    address.push('.');
    address.push_str(dotted);
    address
}

/// The id behind a token or a segment; `None` when a `%` is not followed by two hex digits or the bytes are not UTF-8.
pub fn from_token(token: &str) -> Option<Cow<'_, str>> {
    if !token.contains('%') {
        return Some(Cow::Borrowed(token));
    }
    let mut bytes = token.bytes();
    let mut id = Vec::with_capacity(token.len());
    while let Some(byte) = bytes.next() {
        id.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            _ => byte,
        });
    }
    String::from_utf8(id).ok().map(Cow::Owned)
}

/// Whether a text can stand in front of the bridge's subjects: tokens of letters, digits, `_` and `-`, with dots between. So it
/// holds no wildcard, and is not below `$`, where the servers have subjects of their own.
pub fn is_subject_prefix(text: &str) -> bool {
    text.split('.')
        .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)))
}

/// A table that says of each byte whether it is a letter, a digit or one of `others`.
const fn plain(others: &[u8]) -> [bool; 256] {
    let mut plain = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        plain[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut other = 0;
    while other < others.len() {
        plain[others[other] as usize] = true;
        other += 1;
    }
    plain
}

/// Nearly every id is plain, and every message writes several.
fn write_encoded(out: &mut impl BufMut, id: &str, encoded: &'static AsciiSet, plain: &[bool; 256]) {
    if id.bytes().all(|byte| plain[usize::from(byte)]) {
        out.put_slice(id.as_bytes());
        return;
    }
    for part in percent_encode(id.as_bytes(), encoded) {
        out.put_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_token_which_is_one_token_of_a_subject() {
        for id in ["device1", "a.b", "*", ">", "%", "%2E", "a b", "$SYS", "温度", "\u{1}", "x_y-z"] {
            let token = token(id);
            assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-%".contains(&byte)), "{token}");
            assert_eq!(from_token(&token).as_deref(), Some(id));
        }
        assert_eq!(token("a.b"), "a%2Eb");
        assert_eq!(token("度"), "%E5%BA%A6");
    }

    #[test]
    fn an_id_is_written_into_a_message_as_it_is_everywhere_else() {
        for byte in 0..=0x7f_u8 {
            let id = char::from(byte).to_string();
            let (mut written, mut segment_written) = (Vec::new(), Vec::new());
            write_token(&mut written, &id);
            write_segment(&mut segment_written, &id);
            assert_eq!((written, segment_written), (token(&id).into_bytes(), segment(&id).into_bytes()), "{id:?}");
        }
    }

    #[test]
    fn a_prefix_of_subjects_is_tokens_without_wildcards() {
        for prefix in ["jetlinks", "a.b-c", "_INBOX", "_INBOX.bridge_1"] {
            assert!(is_subject_prefix(prefix), "{prefix}");
        }
        for text in ["", ".", "a.", ".a", "a..b", "a.*", ">", "a b", "$JS", "a.$b", "a/b", "度", "a%2E"] {
            assert!(!is_subject_prefix(text), "{text}");
        }
    }

    #[test]
    fn a_broken_token_names_nothing() {
        for broken in ["%", "%2", "%2G", "%FF", "a%"] {
            assert_eq!(from_token(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_segment_keeps_what_uris_leave_alone() {
        let mut out = Vec::new();
        write_segment(&mut out, "a.b~c/d?e#f%g h:中");
        assert_eq!(String::from_utf8_lossy(&out), "a.b~c%2Fd%3Fe%23f%25g%20h%3A%E4%B8%AD");
    }
}
