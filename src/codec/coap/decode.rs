//! From a datagram to a [`Message`].

use coap_lite::Packet;

use super::{Code, Kind, Message, MessageToken};

/// Options of one message at most. The longest topic has 256 segments; each option costs an allocation or two.
pub const OPTIONS_MAX: usize = 320;

const VERSION: u8 = 1;
const MARKER: u8 = 0xff;

/// Error of a datagram that is not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// It must be ignored: too short, of another version, or nothing that the sender waits for an answer to.
    Noise,
    /// A CON with this message id whose rest cannot be read: it must be reset (RFC 7252 section 4.2).
    Confirmable(u16),
}

/// Reads a datagram.
///
/// # Errors
/// [`Malformed`] says whether the sender must be told.
pub fn decode(datagram: &[u8]) -> Result<Message, Malformed> {
    let [first, code, high, low, rest @ ..] = datagram else { return Err(Malformed::Noise) };
    if first >> 6 != VERSION {
        return Err(Malformed::Noise);
    }
    let id = u16::from_be_bytes([*high, *low]);
    let (kind, malformed) = match first >> 4 & 3 {
        0 => (Kind::Confirmable, Malformed::Confirmable(id)),
        1 => (Kind::NonConfirmable, Malformed::Noise),
        2 => (Kind::Acknowledgement, Malformed::Noise),
        _ => (Kind::Reset, Malformed::Noise),
    };
    let code = Code::from_byte(*code);
    let token = rest.get(..usize::from(first & 15)).and_then(MessageToken::new).ok_or(malformed)?;
    if code == Code::EMPTY && !rest.is_empty() {
        return Err(malformed);
    }
    check_options(&rest[token.as_bytes().len()..]).ok_or(malformed)?;
    let packet = Packet::from_bytes(datagram).map_err(|_| malformed)?;
    Ok(Message { kind, code, id, token, packet })
}

/// Walks over the options without keeping them; `None` when they are too many, cut short, or followed by a marker
/// without a payload. So nothing is allocated for a datagram that is refused.
fn check_options(mut bytes: &[u8]) -> Option<()> {
    for _ in 0..=OPTIONS_MAX {
        match bytes {
            [] => return Some(()),
            [MARKER, payload @ ..] => return (!payload.is_empty()).then_some(()),
            [head, rest @ ..] => {
                let (_, rest) = extended(head >> 4, rest)?;
                let (length, rest) = extended(head & 15, rest)?;
                bytes = rest.get(length..)?;
            }
        }
    }
    None
}

/// A delta or a length with what extends it (RFC 7252 section 3.1).
fn extended(nibble: u8, bytes: &[u8]) -> Option<(usize, &[u8])> {
    match (nibble, bytes) {
        (13, [low, rest @ ..]) => Some((usize::from(*low) + 13, rest)),
        (14, [high, low, rest @ ..]) => Some((usize::from(u16::from_be_bytes([*high, *low])) + 269, rest)),
        (0..=12, rest) => Some((usize::from(nibble), rest)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MessageBuilder, option};
    use super::*;

    fn post(kind: Kind) -> MessageBuilder {
        let token = MessageToken::new(&[1, 2]).expect("short");
        MessageBuilder::new(kind, Code::POST, 0x1234, token)
    }

    #[test]
    fn a_message_survives_its_datagram() {
        let long = "x".repeat(300);
        let draft = post(Kind::NonConfirmable)
            .option(option::URI_PATH, b"product1")
            .option(option::URI_PATH, long.as_bytes())
            .option(option::DEVICE_ID, b"device1")
            .uint(option::BLOCK1, 5000 << 4)
            .payload(b"{}");
        let message = decode(&draft.encode()).expect("well formed");
        assert_eq!((message.kind(), message.code(), message.id()), (Kind::NonConfirmable, Code::POST, 0x1234));
        assert_eq!(message.token().as_bytes(), [1, 2]);
        assert_eq!(message.path(), Ok(format!("/product1/{long}")));
        assert_eq!(message.value(option::DEVICE_ID), Some(&b"device1"[..]));
        assert_eq!(message.uint(option::BLOCK1), Some(5000 << 4));
        assert_eq!(message.payload(), b"{}");
    }

    #[test]
    fn a_path_keeps_every_segment_or_is_none() {
        let path = |segments: &[&[u8]]| {
            let draft = segments.iter().fold(post(Kind::Confirmable), |draft, one| draft.option(option::URI_PATH, one));
            decode(&draft.encode()).expect("well formed").path()
        };
        assert_eq!(path(&[]), Ok("/".to_owned()));
        assert_eq!(path(&[b"a", b"b"]), Ok("/a/b".to_owned()));
        assert_eq!(path(&[b"a", b"", b"b", b""]), Ok("/a//b/".to_owned()));
        assert_eq!(path(&[b"", b"a"]), Ok("/a".to_owned()));
        assert_eq!(path(&[b"/a/b"]), Ok("/%2Fa%2Fb".to_owned()));
        assert_eq!(path(&[b"a", b"b/c/", b"d"]), Ok("/a/b%2Fc%2F/d".to_owned()));
        assert_eq!(path(&[b"a", b"\xff", b"b"]), Err(NotText));
    }

    use super::super::NotText;

    #[test]
    fn what_breaks_the_format_is_reset_when_it_was_confirmable_and_else_ignored() {
        let rows: &[(&[u8], Malformed)] = &[
            (&[], Malformed::Noise),
            (&[0x40, 2, 0], Malformed::Noise),
            (&[0x80, 2, 0, 1], Malformed::Noise),
            (&[0x00, 2, 0, 1], Malformed::Noise),
            (&[0x49, 2, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9], Malformed::Confirmable(1)),
            (&[0x42, 2, 0, 1, 1], Malformed::Confirmable(1)),
            (&[0x40, 2, 0, 1, 0xff], Malformed::Confirmable(1)),
            (&[0x50, 2, 0, 1, 0xff], Malformed::Noise),
            (&[0x40, 0, 0, 1, 0xff, 1], Malformed::Confirmable(1)),
            (&[0x41, 0, 0, 1, 7], Malformed::Confirmable(1)),
            (&[0x60, 0, 0, 1, 7], Malformed::Noise),
            (&[0x40, 2, 0, 1, 0xf0], Malformed::Confirmable(1)),
            (&[0x40, 2, 0, 1, 0x0f], Malformed::Confirmable(1)),
            (&[0x40, 2, 0, 1, 0xd0], Malformed::Confirmable(1)),
            (&[0x40, 2, 0, 1, 0x0d], Malformed::Confirmable(1)),
            (&[0x40, 2, 0, 1, 0xe0, 0xff], Malformed::Confirmable(1)),
            (&[0x40, 2, 0, 1, 0xe0, 0xff, 0xff], Malformed::Confirmable(1)),
            (&[0x40, 2, 0, 1, 0xb2, b'a'], Malformed::Confirmable(1)),
        ];
        for (datagram, expected) in rows {
            assert_eq!(decode(datagram).map(|_| ()), Err(*expected), "{datagram:02x?}");
        }
        assert_eq!(decode(&[0x40, 0, 0, 1]).map(|message| message.code()), Ok(Code::EMPTY));
    }

    #[test]
    fn a_message_has_no_more_options_than_the_longest_topic_needs() {
        let with = |count: usize| {
            let mut bytes = vec![0x40, 2, 0, 1, 0xb0];
            bytes.resize(4 + count, 0);
            decode(&bytes).is_ok()
        };
        assert!(with(OPTIONS_MAX));
        assert!(!with(OPTIONS_MAX + 1));
        assert!(!with(65_000));
    }
}
