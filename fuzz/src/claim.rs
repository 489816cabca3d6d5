//! Bytes of another replica, or of anybody who may publish there, as a claim.

use jetlinks_bridge::replica::claim::{Claim, ClaimSecrets};

/// Secret that signs claims.
pub const SECRET: &[u8] = b"secret1";

/// A claim that is read is written as it was read, with a secret and without; what the secret does not sign is not taken.
pub fn check(data: &[u8]) {
    let (own, foreign) = (ClaimSecrets::new(SECRET, None), ClaimSecrets::new(b"secret2", None));
    let is_signed = |secrets| Claim::decode(data, Some(secrets)).is_ok();
    assert!(!is_signed(&own) || !is_signed(&foreign), "signed by two secrets");
    let Ok(claim) = Claim::decode(data, None) else { return };
    for secrets in [None, Some(&own)] {
        let text = claim.encode(secrets);
        assert_eq!(Claim::decode(text.as_bytes(), secrets).as_ref(), Ok(&claim));
        assert!(Claim::decode(text.as_bytes(), Some(&foreign)).is_err(), "taken without a signature");
    }
}
