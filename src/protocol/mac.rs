//! Message authentication codes: HMAC-SHA256 with secrets of any length, and hex digits of fixed length.

use std::fmt;

use hmac::{Hmac, KeyInit};
use sha2::{Digest, Sha256};

/// An HMAC with that secret, for many messages.
pub(crate) fn keyed(secret: &[u8]) -> Hmac<Sha256> {
    // HMAC pads its key to a whole block; a hash of the secret always fits.
    let mut key = [0; 64];
    key[..32].copy_from_slice(&Sha256::digest(secret));
    Hmac::new(&key.into())
}

/// A secret to sign with and, while all replicas change to it, the one before. Never shown.
#[derive(Clone)]
pub(crate) struct SigningKeys {
    current: Hmac<Sha256>,
    previous: Option<Hmac<Sha256>>,
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeys").field("previous", &self.previous.is_some()).finish_non_exhaustive()
    }
}

impl SigningKeys {
    /// Signs with `current`; accepts what `previous` signed, too.
    pub(crate) fn new(current: &[u8], previous: Option<&[u8]>) -> Self {
        Self { current: keyed(current), previous: previous.map(keyed) }
    }

    /// The secret that signs.
    pub(crate) fn current(&self) -> &Hmac<Sha256> {
        &self.current
    }

    /// Whether one of them made the signature. Asks about both, so the time does not tell which.
    pub(crate) fn any(&self, made: impl Fn(&Hmac<Sha256>) -> bool) -> bool {
        made(&self.current) | self.previous.as_ref().is_some_and(made)
    }
}

/// The lower-case digits of `bytes`, which are half as many as the digits.
pub(crate) fn to_hex<const DIGITS: usize>(bytes: &[u8]) -> [u8; DIGITS] {
    let mut digits = [b'0'; DIGITS];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    digits
}

/// The bytes of that many digits of either case; `None` for anything else.
pub(crate) fn from_hex<const BYTES: usize>(digits: &[u8]) -> Option<[u8; BYTES]> {
    if digits.len() != 2 * BYTES {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(bytes)
}
