//! Signatures of claims: whoever may write on the subject of claims must not be able to end sessions by it.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::protocol::hex;
use crate::protocol::mac::keyed;

/// Digits of a signature.
pub(super) const SIGNATURE_DIGITS: usize = 64;

/// Keeps these signatures apart from any other use of the same secret.
const PURPOSE: &[u8] = b"jetlinks-bridge claim 1\n";

/// What claims are signed with. Never shown.
///
/// A claim that is recorded and said again does no harm: a session gives way only to an answer to a question that was
/// asked within the last moments, and takeovers count by the time at which they were said.
#[derive(Clone)]
pub struct ClaimSecrets {
    current: Hmac<Sha256>,
    previous: Option<Hmac<Sha256>>,
}

impl fmt::Debug for ClaimSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClaimSecrets").field("previous", &self.previous.is_some()).finish_non_exhaustive()
    }
}

impl ClaimSecrets {
    /// Signs with `current`; accepts what `previous` signed, too.
    pub fn new(current: &[u8], previous: Option<&[u8]>) -> Self {
        Self { current: keyed(current), previous: previous.map(keyed) }
    }

    /// The signature of a text.
    pub(super) fn sign(&self, text: &str) -> [u8; SIGNATURE_DIGITS] {
        hex::encode(&with_text(&self.current, text).finalize().into_bytes())
    }

    /// Whether one of the secrets made that signature of the text. Takes the same time whatever differs.
    pub(super) fn made(&self, signature: &str, text: &str) -> bool {
        let Some(signature) = hex::decode::<{ SIGNATURE_DIGITS / 2 }>(signature.as_bytes()) else { return false };
        let matches = |secret: &Hmac<Sha256>| with_text(secret, text).verify_slice(&signature).is_ok();
        matches(&self.current) | self.previous.as_ref().is_some_and(matches)
    }
}

fn with_text(secret: &Hmac<Sha256>, text: &str) -> Hmac<Sha256> {
    let mut mac = secret.clone();
    mac.update(PURPOSE);
    mac.update(text.as_bytes());
    mac
}
