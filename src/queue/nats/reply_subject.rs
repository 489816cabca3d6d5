//! Reply subjects that carry the token of a record.

use async_nats::Subject;
use bytes::{Bytes, BytesMut};

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
