//! Signatures of claims: whoever may write on the subject of claims must not be able to end sessions by it.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::protocol::mac::{SigningKeys, from_hex, to_hex};

/// Digits of a signature.
pub(super) const SIGNATURE_DIGITS: usize = 64;

/// Keeps these signatures apart from any other use of the same secret.
const PURPOSE: &[u8] = b"jetlinks-bridge claim 1\n";

/// The secrets that claims are signed with. Never shown.
///
/// A claim that is recorded and said again does no harm: a session gives way only to an answer to a question that was
/// asked within the last moments, and takeovers count by the time at which they were said.
#[derive(Debug, Clone)]
pub struct ClaimSecrets(SigningKeys);

impl ClaimSecrets {
    /// Signs with `current`; accepts what `previous` signed, too.
    pub fn new(current: &[u8], previous: Option<&[u8]>) -> Self {
        Self(SigningKeys::new(current, previous))
    }

    /// The signature of a text.
    pub(super) fn sign(&self, text: &str) -> [u8; SIGNATURE_DIGITS] {
        to_hex(&with_text(self.0.current(), text).finalize().into_bytes())
    }

    /// Whether one of the secrets made that signature of the text. Takes the same time whatever differs.
    pub(super) fn made(&self, signature: &str, text: &str) -> bool {
        let Some(signature) = from_hex::<{ SIGNATURE_DIGITS / 2 }>(signature.as_bytes()) else { return false };
        self.0.any(|key| with_text(key, text).verify_slice(&signature).is_ok())
    }
}

fn with_text(secret: &Hmac<Sha256>, text: &str) -> Hmac<Sha256> {
    let mut mac = secret.clone();
    mac.update(PURPOSE);
    mac.update(text.as_bytes());
    mac
}
