//! A keyed hash of a request's bytes, by which its repetition is known, and a key that nobody has.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::protocol::cipher;
use crate::protocol::mac;

/// Domain separation: no other use of the same key gives these hashes.
const PURPOSE: &[u8] = b"jetlinks-bridge coap request 1";

/// Domain separation of the key for devices without one from the hashes.
const DECOY_PURPOSE: &[u8] = b"jetlinks-bridge coap decoy 1";

/// The hash of one request (HMAC-SHA256, cut). Requests with the same one are the same bytes: nobody finds others without
/// the key, and by chance it is one pair in 2^48 of those with one message id.
pub(super) type Fingerprint = u64;

/// The key of the hashes. Random, and the process's own; never shown.
#[derive(Clone)]
pub struct FingerprintKey {
    keyed: Hmac<Sha256>,
    decoy: [u8; cipher::KEY_BYTES],
}

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FingerprintKey")
    }
}

impl FingerprintKey {
    /// A key of random bytes.
    pub fn new(random: [u8; 32]) -> Self {
        let key = mac::keyed(&random);
        let keyed = |purpose: &[u8]| key.clone().chain_update(purpose);
        let mut decoy = [0; cipher::KEY_BYTES];
        decoy.copy_from_slice(&keyed(DECOY_PURPOSE).finalize().into_bytes()[..cipher::KEY_BYTES]);
        Self { keyed: keyed(PURPOSE), decoy }
    }

    /// Key that decrypts bodies of devices without a key, so that they take the same time. It is secret, so nobody can
    /// encrypt with it.
    pub(super) fn decoy(&self) -> &[u8; cipher::KEY_BYTES] {
        &self.decoy
    }

    /// The fingerprint of these bytes.
    pub(super) fn fingerprint(&self, bytes: &[u8]) -> Fingerprint {
        let mut keyed = self.keyed.clone();
        keyed.update(bytes);
        let mut cut = [0; size_of::<Fingerprint>()];
        cut.copy_from_slice(&keyed.finalize().into_bytes()[..size_of::<Fingerprint>()]);
        Fingerprint::from_be_bytes(cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_follows_from_the_bytes_and_the_key_alone() {
        let [one, other] = [[1; 32], [2; 32]].map(FingerprintKey::new);
        assert_eq!(one.fingerprint(b"report"), FingerprintKey::new([1; 32]).fingerprint(b"report"));
        assert_ne!(one.fingerprint(b"report"), other.fingerprint(b"report"));
        for near in [&b"Report"[..], b"report\0", b"repor", b""] {
            assert_ne!(one.fingerprint(b"report"), one.fingerprint(near));
        }
    }

    #[test]
    fn the_key_of_devices_without_one_is_another_in_every_process() {
        let [one, same, other] = [[1; 32], [1; 32], [2; 32]].map(FingerprintKey::new);
        assert_eq!(one.decoy(), same.decoy());
        assert_ne!(one.decoy(), other.decoy());
        assert_ne!(one.decoy()[..8], one.fingerprint(b"").to_be_bytes());
    }

    #[test]
    fn the_key_is_not_shown() {
        assert_eq!(format!("{:?}", FingerprintKey::new([7; 32])), "FingerprintKey");
    }
}
