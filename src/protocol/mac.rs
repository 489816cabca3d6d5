//! Message authentication codes: HMAC-SHA256 with secrets of any length.

use hmac::{Hmac, KeyInit};
use sha2::{Digest, Sha256};

/// An HMAC with that secret, for many messages.
pub(super) fn keyed(secret: &[u8]) -> Hmac<Sha256> {
    // HMAC pads its key to a whole block; a hash of the secret always fits.
    let mut key = [0; 64];
    key[..32].copy_from_slice(&Sha256::digest(secret));
    Hmac::new(&key.into())
}
