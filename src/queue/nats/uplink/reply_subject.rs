//! Reply subjects that carry the token of a record.

use async_nats::Subject;
use bytes::{Bytes, BytesMut};

use crate::protocol::uplink::DeliveryId;

/// Characters of the number of a sending: 4 digits to base 32 hold its 20 bits.
const NUMBER_DIGITS: usize = 4;

/// And those of a token: 13 digits hold its 64 bits.
const TOKEN_DIGITS: usize = 13;

const DIGITS: usize = NUMBER_DIGITS + TOKEN_DIGITS;

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

    /// The subject that the acknowledgement of this sending comes back on; `number` is below 2^20.
    pub(super) fn subject(&mut self, token: DeliveryId, number: usize) -> Subject {
        let length = self.prefix.len() + DIGITS;
        if self.block.capacity() < length {
            self.block = BytesMut::with_capacity(BLOCK.max(length));
        }
        self.block.extend_from_slice(&self.prefix);
        self.block.extend_from_slice(&encode(token, number));
        let bytes = self.block.split_to(length).freeze();
        // The inbox came from a str and the digits are ASCII.
        Subject::try_from(bytes).expect("a reply subject is UTF-8")
    }
}

fn encode(token: DeliveryId, number: usize) -> [u8; DIGITS] {
    let mut digits = [0; DIGITS];
    let (first, last) = digits.split_at_mut(NUMBER_DIGITS);
    // On no machine is a pointer longer.
    write(first, number as u64);
    write(last, token.to_u64());
    digits
}

fn write(digits: &mut [u8], mut rest: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[usize::try_from(rest & 31).unwrap_or_default()];
        rest >>= 5;
    }
}

/// The token and the number in the last characters of a reply subject.
pub(super) fn decode(subject: &str) -> Option<(DeliveryId, usize)> {
    let (number, token) = subject.as_bytes().last_chunk::<DIGITS>()?.split_at(NUMBER_DIGITS);
    Some((DeliveryId::from_u64(read(token)?), usize::try_from(read(number)?).ok()?))
}

fn read(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| Some(number << 5 | u64::from(value(*digit)?)))
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
    fn a_reply_subject_gives_back_token_and_number() {
        let mut subjects = ReplySubjects::new("_INBOX.abc");
        for token in [
            DeliveryId { slot: 0, generation: 0, sequence: 0 },
            DeliveryId { slot: 99_999, generation: 7, sequence: 65_535 },
            DeliveryId { slot: u32::MAX, generation: u16::MAX, sequence: u16::MAX },
        ] {
            for number in [0, 1, 31, (1 << 20) - 1] {
                let subject = subjects.subject(token, number);
                assert_eq!(subject.as_str().rsplit_once('.').map(|(inbox, _)| inbox), Some("_INBOX.abc"));
                assert_eq!(decode(&subject), Some((token, number)));
            }
        }
        assert_eq!(decode("short"), None);
        assert_eq!(decode("_INBOX.abc.0000000000000000Z"), None);
    }
}
