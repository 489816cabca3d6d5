//! The first datagram of a handshake, and the answer to one that has no cookie (RFC 6347 section 4.2.1).

use super::cookie::COOKIE_BYTES;
use super::flight::MESSAGE_BYTES_MAX;
use super::record::{DTLS, FRAGMENT_BYTES, HANDSHAKE, RECORD_BYTES};

const CLIENT_HELLO: u8 = 1;
const HELLO_VERIFY_REQUEST: u8 = 3;

/// DTLS 1.0: HelloVerifyRequest speaks it whatever is negotiated later.
const DTLS_1_0: [u8; 2] = [DTLS, 0xff];

/// Bytes of a client's random number.
pub(super) const RANDOM_BYTES: usize = 32;

/// A ClientHello that came whole in one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hello<'a> {
    sequence: [u8; 6],
    /// Its number among the messages of the handshake.
    pub(super) message: u16,
    /// The record that it is in.
    pub(super) record: &'a [u8],
    /// Tells attempts of one client apart: it stays the same when the hello comes again with its cookie.
    pub(super) random: [u8; RANDOM_BYTES],
    /// Empty in a first hello.
    pub(super) cookie: &'a [u8],
}

impl<'a> Hello<'a> {
    /// Reads a datagram; `None` for anything but an unencrypted ClientHello. One that is spread over records is none:
    /// nothing may be kept before the cookie, so it could not be put together. Nor is one that is longer than OpenSSL
    /// gets to see.
    pub(super) fn read(datagram: &'a [u8]) -> Option<Self> {
        let (head, rest) = datagram.split_at_checked(RECORD_BYTES)?;
        let [HANDSHAKE, DTLS, _, 0, 0, s0, s1, s2, s3, s4, s5, high, low] = *head else { return None };
        let content = rest.get(..usize::from(u16::from_be_bytes([high, low])))?;
        let record = &datagram[..RECORD_BYTES + content.len()];
        let (head, body) = content.split_at_checked(FRAGMENT_BYTES)?;
        let [CLIENT_HELLO, l0, l1, l2, m0, m1, 0, 0, 0, f0, f1, f2] = *head else { return None };
        let message = u16::from_be_bytes([m0, m1]);
        let bytes = usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2);
        if [l0, l1, l2] != [f0, f1, f2] || bytes > MESSAGE_BYTES_MAX || body.len() != bytes {
            return None;
        }
        let [DTLS, _, rest @ ..] = &body[..bytes] else { return None };
        let (random, rest) = rest.split_first_chunk::<RANDOM_BYTES>()?;
        let (_session, rest) = vector(rest)?;
        let (cookie, _) = vector(rest)?;
        Some(Self { sequence: [s0, s1, s2, s3, s4, s5], message, record, random: *random, cookie })
    }

    /// The answer that asks for the cookie. Shorter than any ClientHello, so it amplifies nothing; under the number of
    /// the record that it answers, so nothing has to be remembered.
    pub(super) fn request_cookie(&self, cookie: &[u8; COOKIE_BYTES]) -> Vec<u8> {
        const BODY_BYTES: u8 = 3 + COOKIE_BYTES as u8;
        let mut datagram = vec![HANDSHAKE, DTLS_1_0[0], DTLS_1_0[1], 0, 0];
        datagram.extend_from_slice(&self.sequence);
        datagram.extend_from_slice(&[0, FRAGMENT_BYTES as u8 + BODY_BYTES]);
        datagram.extend_from_slice(&[HELLO_VERIFY_REQUEST, 0, 0, BODY_BYTES, 0, 0, 0, 0, 0, 0, 0, BODY_BYTES]);
        datagram.extend_from_slice(&[DTLS_1_0[0], DTLS_1_0[1], COOKIE_BYTES as u8]);
        datagram.extend_from_slice(cookie);
        datagram
    }
}

/// Whether the first record of a datagram belongs to a handshake that is not encrypted yet.
pub(super) fn is_unencrypted(datagram: &[u8]) -> bool {
    matches!(datagram, [_, _, _, 0, 0, ..])
}

/// A vector with one byte of length, and what follows it.
fn vector(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(cookie: &[u8]) -> Vec<u8> {
        let mut body = vec![0xfe, 0xfd];
        body.extend_from_slice(&[9; RANDOM_BYTES]);
        body.push(0);
        body.push(u8::try_from(cookie.len()).expect("short"));
        body.extend_from_slice(cookie);
        body.extend_from_slice(&[0, 2, 0xc0, 0xac, 1, 0]);
        let length = u8::try_from(body.len()).expect("short");
        let mut datagram = vec![22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 5, 0, length + 12];
        datagram.extend_from_slice(&[1, 0, 0, length, 0, 0, 0, 0, 0, 0, 0, length]);
        datagram.extend_from_slice(&body);
        datagram
    }

    #[test]
    fn a_hello_tells_its_random_number_and_its_cookie() {
        let (first, second) = (hello(b""), hello(b"cookie"));
        let first = Hello::read(&first).expect("a hello");
        let second = Hello::read(&second).expect("a hello");
        assert_eq!((first.cookie, second.cookie), (&b""[..], &b"cookie"[..]));
        assert_eq!((first.random, second.random), ([9; RANDOM_BYTES], [9; RANDOM_BYTES]));
    }

    #[test]
    fn the_answer_is_shorter_than_the_hello_and_has_its_number() {
        let hello = hello(b"");
        let answer = Hello::read(&hello).expect("a hello").request_cookie(&[7; COOKIE_BYTES]);
        assert!(answer.len() < hello.len());
        assert_eq!(answer[5..11], hello[5..11]);
        assert_eq!(usize::from(answer[12]), answer.len() - RECORD_BYTES);
        assert_eq!(usize::from(answer[24]), answer.len() - RECORD_BYTES - FRAGMENT_BYTES);
        assert_eq!(answer[27], 16);
    }

    #[test]
    fn nothing_cut_changed_or_fragmented_is_a_hello() {
        let whole = hello(b"cookie");
        for end in 0..whole.len() - 6 {
            assert_eq!(Hello::read(&whole[..end]), None, "cut at {end}");
        }
        // Type, version, epoch, kind of message, length of the fragment, its offset.
        for at in [0, 1, 3, 4, 13, 16, 19, 24, 25] {
            let mut changed = whole.clone();
            changed[at] ^= 0x41;
            assert_eq!(Hello::read(&changed), None, "byte {at}");
        }
    }
}
