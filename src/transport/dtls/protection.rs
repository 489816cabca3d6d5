//! Protection of records behind the handshake (RFC 6347 section 4.1), in some 150 bytes for each session. OpenSSL's object
//! keeps 35 kB: its buffer for messages of a handshake stays, whatever is said to it.
//!
//! 1. OpenSSL does the handshake; [`Protection::of`] derives the keys from what came of it (RFC 5246 section 6.3).
//! 2. [`Protection::open`] takes each record once, [`Protection::seal`] makes one.
//!
//! All suites that are served encrypt and authenticate at once (AEAD), so there is no padding and no order of checks that
//! could tell anything.

use std::fmt;

use openssl::ssl::SslRef;

use super::record::{RECORD_BYTES, Record};
use super::suite::{KEY_BYTES_MAX, NONCE_BYTES, Suite};
use super::window::Window;

/// Epoch of the records that are protected: there is one handshake and no other.
pub(super) const EPOCH: u16 = 1;

/// Version of DTLS 1.2 in records.
const VERSION: [u8; 2] = [0xfe, 0xfd];

/// Number of the last record of an epoch (RFC 6347 section 4.1).
const SEQUENCE_MAX: u64 = (1 << 48) - 1;

/// Bytes of the master secret (RFC 5246 section 8.1), and of the random bytes of either hello.
const MASTER_BYTES: usize = 48;
const RANDOM_BYTES: usize = 32;

/// Keys and record numbers of one session, both ways. Never shown.
pub(super) struct Protection {
    suite: Suite,
    read: Key,
    write: Key,
    /// Number of the next record that is made.
    next: u64,
    window: Window,
}

/// Key of one direction, and the part of its nonces that does not come with a record.
#[derive(Clone, Copy)]
struct Key {
    key: [u8; KEY_BYTES_MAX],
    fixed: [u8; NONCE_BYTES],
}

impl fmt::Debug for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Protection")
    }
}

impl Protection {
    /// The protection that a finished handshake has agreed on; `None` when its suite is not one of those that are served.
    pub(super) fn of(ssl: &SslRef) -> Option<Self> {
        let suite = Suite::named(ssl.current_cipher()?.name())?;
        let mut master = [0; MASTER_BYTES];
        let [mut server, mut client] = [[0; RANDOM_BYTES]; 2];
        if ssl.session()?.master_key(&mut master) != MASTER_BYTES
            || ssl.server_random(&mut server) != RANDOM_BYTES
            || ssl.client_random(&mut client) != RANDOM_BYTES
        {
            return None;
        }
        let seed = [&b"key expansion"[..], &server, &client].concat();
        let (key_bytes, fixed_bytes) = (suite.key_bytes(), NONCE_BYTES - suite.explicit_bytes());
        let mut block = [0; 2 * (KEY_BYTES_MAX + NONCE_BYTES)];
        suite.expand(&master, &seed, &mut block[..2 * (key_bytes + fixed_bytes)])?;
        let (keys, fixed) = block.split_at(2 * key_bytes);
        let key = |number: usize| {
            let mut key = Key { key: [0; KEY_BYTES_MAX], fixed: [0; NONCE_BYTES] };
            key.key[..key_bytes].copy_from_slice(&keys[number * key_bytes..][..key_bytes]);
            key.fixed[..fixed_bytes].copy_from_slice(&fixed[number * fixed_bytes..][..fixed_bytes]);
            key
        };
        let (client, server) = (key(0), key(1));
        let (read, write) = if ssl.is_server() { (client, server) } else { (server, client) };
        Some(Self { suite, read, write, next: 0, window: Window::default() })
    }

    /// Lets the next record have that number, as OpenSSL made those before: with these keys no number may come twice.
    pub(super) fn begin(&mut self, next: u64) {
        self.next = next;
    }

    /// Decrypts a record to the begin of `plain`; its bytes there. `None` when it is not one of the peer, came before, or is
    /// empty.
    pub(super) fn open(&mut self, record: &Record<'_>, plain: &mut [u8]) -> Option<usize> {
        if record.epoch != EPOCH || record.version != VERSION || !self.window.is_new(record.sequence) {
            return None;
        }
        let (explicit, rest) = record.body.split_at_checked(self.suite.explicit_bytes())?;
        let (encrypted, tag) = rest.split_at_checked(rest.len().checked_sub(self.suite.tag_bytes())?)?;
        if encrypted.is_empty() || encrypted.len() > plain.len() {
            return None;
        }
        let nonce = nonce(&self.read.fixed, explicit, number(record.sequence));
        let additional = additional(record.sequence, record.content, encrypted.len())?;
        let key = &self.read.key[..self.suite.key_bytes()];
        let bytes = self.suite.decrypt(key, &nonce, &additional, (encrypted, tag), plain).ok()?;
        self.window.note(record.sequence);
        Some(bytes)
    }

    /// The record of these bytes; `None` when there are too many of them, or no number is left.
    pub(super) fn seal(&mut self, content: u8, plain: &[u8]) -> Option<Vec<u8>> {
        let sequence = Some(self.next).filter(|next| *next <= SEQUENCE_MAX)?;
        let number = number(sequence);
        let explicit = &number[..self.suite.explicit_bytes()];
        let body_bytes = u16::try_from(explicit.len() + plain.len() + self.suite.tag_bytes()).ok()?;
        let mut record = Vec::with_capacity(RECORD_BYTES + usize::from(body_bytes) + 1);
        record.push(content);
        record.extend(VERSION);
        record.extend(number);
        record.extend(body_bytes.to_be_bytes());
        record.extend(explicit);
        let nonce = nonce(&self.write.fixed, explicit, number);
        let additional = additional(sequence, content, plain.len())?;
        let key = &self.write.key[..self.suite.key_bytes()];
        self.suite.encrypt(key, &nonce, &additional, plain, &mut record).ok()?;
        self.next += 1;
        Some(record)
    }
}

/// Epoch and number of a record, as it has them.
fn number(sequence: u64) -> [u8; 8] {
    (u64::from(EPOCH) << 48 | sequence).to_be_bytes()
}

/// The nonce of a record: what it brings with it, or its number, mixed with all 12 bytes of the other part.
fn nonce(fixed: &[u8; NONCE_BYTES], explicit: &[u8], number: [u8; 8]) -> [u8; NONCE_BYTES] {
    let mut nonce = *fixed;
    if explicit.is_empty() {
        nonce[NONCE_BYTES - 8..].iter_mut().zip(number).for_each(|(byte, mixed)| *byte ^= mixed);
    } else {
        nonce[NONCE_BYTES - explicit.len()..].copy_from_slice(explicit);
    }
    nonce
}

/// The data that a tag covers besides the text (RFC 5246 section 6.2.3.3).
fn additional(sequence: u64, content: u8, bytes: usize) -> Option<[u8; RECORD_BYTES]> {
    let [n0, n1, n2, n3, n4, n5, n6, n7] = number(sequence);
    let [high, low] = u16::try_from(bytes).ok()?.to_be_bytes();
    Some([n0, n1, n2, n3, n4, n5, n6, n7, content, VERSION[0], VERSION[1], high, low])
}
