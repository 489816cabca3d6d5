//! Reply subjects that carry a token, and the acknowledgements that come back on them.

use async_nats::{Message, Subject};
use bytes::{Bytes, BytesMut};
use serde::Deserialize;

use crate::protocol::uplink::Token;

/// Characters of a token in a subject: 13 digits to base 32 hold its 64 bits, one more holds the lap
/// that it was sent in.
const DIGITS: usize = 14;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

/// Reply subjects are cut from blocks of this size, so that most cost no allocation.
const BLOCK: usize = 4096;

/// Makes the reply subjects of one worker, all below one inbox.
#[derive(Debug)]
pub(super) struct ReplySubjects {
    prefix: Bytes,
    block: BytesMut,
}

impl ReplySubjects {
    /// `inbox` without a trailing dot.
    pub(super) fn new(inbox: &str) -> Self {
        Self { prefix: Bytes::from(format!("{inbox}.")), block: BytesMut::new() }
    }

    /// The subject that the acknowledgement of this sending comes back on.
    pub(super) fn subject(&mut self, token: Token, lap: u8) -> Subject {
        let length = self.prefix.len() + DIGITS;
        if self.block.capacity() < length {
            self.block = BytesMut::with_capacity(BLOCK.max(length));
        }
        self.block.extend_from_slice(&self.prefix);
        self.block.extend_from_slice(&encode(token, lap));
        let bytes = self.block.split_to(length).freeze();
        // The inbox came from a str and the digits are ASCII.
        Subject::try_from(bytes).expect("a reply subject is UTF-8")
    }
}

fn encode(token: Token, lap: u8) -> [u8; DIGITS] {
    let mut digits = [0; DIGITS];
    digits[0] = ALPHABET[usize::from(lap & 31)];
    let mut rest = token.to_u64();
    for digit in digits[1..].iter_mut().rev() {
        *digit = ALPHABET[usize::try_from(rest & 31).unwrap_or_default()];
        rest >>= 5;
    }
    digits
}

/// The token and the lap in the last characters of a reply subject.
pub(super) fn decode(subject: &str) -> Option<(Token, u8)> {
    let digits = subject.as_bytes().last_chunk::<DIGITS>()?;
    let mut number = 0_u64;
    for digit in &digits[1..] {
        number = number << 5 | u64::from(value(*digit)?);
    }
    Some((Token::from_u64(number), value(digits[0])?))
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'v' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// What a message on a reply subject says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Acknowledgement {
    /// The stream has the record.
    Stored,
    /// This record cannot be stored as it is; others can.
    Unstorable(String),
    /// The stream does not take records at present.
    Refused(String),
}

/// `err_code` of a message above the stream's `max_msg_size`.
const MESSAGE_TOO_LARGE: u64 = 10_054;

/// `err_code` of headers above what a stream can hold.
const HEADER_TOO_LARGE: u64 = 10_097;

#[derive(Deserialize)]
struct Reply {
    error: Option<ReplyError>,
    seq: Option<u64>,
}

#[derive(Deserialize)]
struct ReplyError {
    err_code: Option<u64>,
    description: Option<String>,
}

/// Reads an acknowledgement. The server writes `error` before everything else, so a reply that begins with the stream's
/// name is a positive one and needs no parser.
pub(super) fn read(message: &Message) -> Acknowledgement {
    if let Some(status) = message.status {
        return Acknowledgement::Refused(format!("status {status}"));
    }
    if message.payload.starts_with(br#"{"stream":""#) {
        return Acknowledgement::Stored;
    }
    match serde_json::from_slice::<Reply>(&message.payload) {
        Ok(Reply { error: Some(error), .. }) => {
            let description = error.description.unwrap_or_default();
            match error.err_code {
                Some(MESSAGE_TOO_LARGE | HEADER_TOO_LARGE) => Acknowledgement::Unstorable(description),
                _ => Acknowledgement::Refused(description),
            }
        }
        Ok(Reply { error: None, seq: Some(_) }) => Acknowledgement::Stored,
        Ok(Reply { error: None, seq: None }) => Acknowledgement::Refused("no sequence number".to_owned()),
        Err(_) => Acknowledgement::Refused("not an acknowledgement".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use async_nats::StatusCode;

    use super::*;

    fn message(payload: &'static [u8], status: Option<StatusCode>) -> Message {
        Message {
            subject: Subject::from_static("_INBOX.a.b"),
            reply: None,
            payload: Bytes::from_static(payload),
            headers: None,
            status,
            description: None,
            length: 0,
        }
    }

    #[test]
    fn a_reply_subject_gives_back_token_and_lap() {
        let mut subjects = ReplySubjects::new("_INBOX.abc");
        for token in [
            Token { slot: 0, generation: 0, sequence: 0 },
            Token { slot: 99_999, generation: 7, sequence: 65_535 },
            Token { slot: u32::MAX, generation: u16::MAX, sequence: u16::MAX },
        ] {
            for lap in [0, 1, 31] {
                let subject = subjects.subject(token, lap);
                assert_eq!(subject.as_str().rsplit_once('.').map(|(inbox, _)| inbox), Some("_INBOX.abc"));
                assert_eq!(decode(&subject), Some((token, lap)));
            }
        }
        assert_eq!(decode("short"), None);
        assert_eq!(decode("_INBOX.abc.0000000000000Z"), None);
    }

    #[test]
    fn an_acknowledgement_is_told_from_every_refusal() {
        let stored = message(br#"{"stream":"JETLINKS_DEVICE","seq":1}"#, None);
        assert_eq!(read(&stored), Acknowledgement::Stored);
        let reordered = message(br#"{"seq":1,"stream":"JETLINKS_DEVICE"}"#, None);
        assert_eq!(read(&reordered), Acknowledgement::Stored);
        let full = br#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"S","seq":0}"#;
        assert_eq!(read(&message(full, None)), Acknowledgement::Refused("maximum messages exceeded".to_owned()));
        let large = br#"{"error":{"code":400,"err_code":10054,"description":"too large"},"stream":"S","seq":0}"#;
        assert_eq!(read(&message(large, None)), Acknowledgement::Unstorable("too large".to_owned()));
        assert!(matches!(read(&message(b"", Some(StatusCode::NO_RESPONDERS))), Acknowledgement::Refused(_)));
        assert!(matches!(read(&message(b"", None)), Acknowledgement::Refused(_)));
        assert!(matches!(read(&message(b"{}", None)), Acknowledgement::Refused(_)));
    }
}
