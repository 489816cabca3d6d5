//! Signatures of what replicas say: whoever may write on their subjects must not be able to end sessions by it.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::protocol::mac::{SigningKeys, from_hex, to_hex};

/// Digits of a signature.
pub(in crate::replica) const SIGNATURE_DIGITS: usize = 64;

/// Kind of the text that is signed. It keeps signatures apart from any other use of the same secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::replica) enum Purpose {
    /// A claim.
    Claim,
    /// A request of an operator to other replicas, and what they say about such requests.
    #[cfg_attr(not(feature = "bridge"), expect(dead_code, reason = "requests need the feature `bridge`"))]
    Request,
}

impl Purpose {
    fn text(self) -> &'static [u8] {
        match self {
            Purpose::Claim => b"jetlinks-bridge claim 1\n",
            Purpose::Request => b"jetlinks-bridge request 1\n",
        }
    }
}

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
    pub(in crate::replica) fn sign(&self, purpose: Purpose, text: &str) -> [u8; SIGNATURE_DIGITS] {
        to_hex(&with_text(self.0.current(), purpose, text).finalize().into_bytes())
    }

    /// Whether one of the secrets made that signature of the text. Takes the same time whatever differs.
    pub(in crate::replica) fn made(&self, signature: &str, purpose: Purpose, text: &str) -> bool {
        let Some(signature) = from_hex::<{ SIGNATURE_DIGITS / 2 }>(signature.as_bytes()) else { return false };
        self.0.any(|key| with_text(key, purpose, text).verify_slice(&signature).is_ok())
    }
}

fn with_text(secret: &Hmac<Sha256>, purpose: Purpose, text: &str) -> Hmac<Sha256> {
    let mut mac = secret.clone();
    mac.update(purpose.text());
    mac.update(text.as_bytes());
    mac
}
