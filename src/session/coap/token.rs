//! Tokens that a device is given over DTLS and shows with each message.
//!
//! A token holds its own proof, so every replica with the same secret accepts it and none has to remember it: 4 bytes
//! of expiry (seconds since 1970) and the first 12 of an HMAC-SHA256 over device, expiry and a hash of the device's
//! key, as 32 hex digits. Re-keying a device ends its tokens.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::protocol::mac::{SigningKeys, from_hex, to_hex};

/// Length of a token: hex digits, as devices have fixed buffers.
pub const TOKEN_BYTES: usize = 32;

const EXPIRY_BYTES: usize = 4;
const MAC_BYTES: usize = 12;

/// Domain separation: no other use of the same secret gives these MACs.
const PURPOSE: &[u8] = b"jetlinks-bridge coap token 1";

/// Error of a token that is refused. For the log alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// It is not 32 hex digits.
    Form,
    /// Neither secret made it, or for another device or another key.
    Wrong,
    /// Its time is over.
    Expired,
}

/// Secrets that sign tokens. Never shown.
#[derive(Debug, Clone)]
pub struct TokenSecrets(SigningKeys);

impl TokenSecrets {
    /// Signs with `current`; accepts what `previous` signed, too.
    pub fn new(current: &[u8], previous: Option<&[u8]>) -> Self {
        Self(SigningKeys::new(current, previous))
    }

    /// A token for the device until `expiry_secs` (since 1970; after 2106 it counts as that year).
    pub fn issue(&self, device: &str, secure_key: &str, expiry_secs: u64) -> [u8; TOKEN_BYTES] {
        let expiry = u32::try_from(expiry_secs).unwrap_or(u32::MAX).to_be_bytes();
        let mut token = [0; EXPIRY_BYTES + MAC_BYTES];
        token[..EXPIRY_BYTES].copy_from_slice(&expiry);
        token[EXPIRY_BYTES..].copy_from_slice(&sign(self.0.current(), device, secure_key, expiry));
        to_hex(&token)
    }

    /// Whether the device may use the token now. Takes the same time whatever is wrong with its MAC.
    ///
    /// # Errors
    /// [`TokenError`], for the log.
    pub fn verify(&self, token: &[u8], device: &str, secure_key: &str, now_secs: u64) -> Result<(), TokenError> {
        let token: [u8; EXPIRY_BYTES + MAC_BYTES] = from_hex(token).ok_or(TokenError::Form)?;
        let [e0, e1, e2, e3, mac @ ..] = token;
        let expiry = [e0, e1, e2, e3];
        let is_made = self.0.any(|key| sign(key, device, secure_key, expiry).ct_eq(&mac).into());
        if !is_made || secure_key.is_empty() {
            return Err(TokenError::Wrong);
        }
        if now_secs >= u64::from(u32::from_be_bytes(expiry)) {
            return Err(TokenError::Expired);
        }
        Ok(())
    }
}

fn sign(secret: &Hmac<Sha256>, device: &str, secure_key: &str, expiry: [u8; EXPIRY_BYTES]) -> [u8; MAC_BYTES] {
    // All parts but the last have a fixed length, so no two inputs run together.
    let mut mac = secret.clone();
    mac.update(PURPOSE);
    mac.update(&expiry);
    mac.update(&Sha256::digest(secure_key));
    mac.update(device.as_bytes());
    let mut cut = [0; MAC_BYTES];
    cut.copy_from_slice(&mac.finalize().into_bytes()[..MAC_BYTES]);
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "testtesttesttest";
    const NOW: u64 = 1_700_000_000;

    fn secrets() -> TokenSecrets {
        TokenSecrets::new(b"secret1", None)
    }

    fn token() -> [u8; TOKEN_BYTES] {
        secrets().issue("device1", KEY, NOW + 60)
    }

    #[test]
    fn a_token_is_32_hex_digits_whose_mac_another_implementation_computes_alike() {
        // (printf 'jetlinks-bridge coap token 1\x65\x53\xf1\x3c'; printf testtesttesttest | sha256sum | cut -d' ' -f1 |
        //  xxd -r -p; printf device1) | openssl dgst -sha256 -mac HMAC -macopt
        //  hexkey:$(printf secret1 | sha256sum | cut -d' ' -f1)
        assert_eq!(&token(), b"6553f13ca9a9c42ae939a284ba5720f7");
    }

    #[test]
    fn a_token_is_valid_on_every_replica_until_it_expires() {
        let replica = TokenSecrets::new(b"secret1", Some(b"secret0"));
        assert_eq!(replica.verify(&token(), "device1", KEY, NOW + 59), Ok(()));
        assert_eq!(replica.verify(&token().to_ascii_uppercase(), "device1", KEY, NOW), Ok(()));
        assert_eq!(replica.verify(&token(), "device1", KEY, NOW + 60), Err(TokenError::Expired));
    }

    #[test]
    fn another_device_or_another_key_cannot_use_it() {
        assert_eq!(secrets().verify(&token(), "device2", KEY, NOW), Err(TokenError::Wrong));
        assert_eq!(secrets().verify(&token(), "device1", "testtesttesttesu", NOW), Err(TokenError::Wrong));
        assert_eq!(secrets().verify(&token(), "device1", "", NOW), Err(TokenError::Wrong));
        let keyless = secrets().issue("device1", "", NOW + 60);
        assert_eq!(secrets().verify(&keyless, "device1", "", NOW), Err(TokenError::Wrong));
    }

    #[test]
    fn the_previous_secret_is_accepted_and_no_older_one() {
        let rotated = TokenSecrets::new(b"secret2", Some(b"secret1"));
        assert_eq!(rotated.verify(&token(), "device1", KEY, NOW), Ok(()));
        assert_ne!(rotated.issue("device1", KEY, NOW + 60), token(), "signed with the previous secret");
        let again = TokenSecrets::new(b"secret3", Some(b"secret2"));
        assert_eq!(again.verify(&token(), "device1", KEY, NOW), Err(TokenError::Wrong));
    }

    #[test]
    fn no_digit_of_a_token_can_be_changed() {
        for at in 0..TOKEN_BYTES {
            let mut changed = token();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(secrets().verify(&changed, "device1", KEY, NOW), Err(TokenError::Wrong), "digit {at}");
            changed[at] = b'g';
            assert_eq!(secrets().verify(&changed, "device1", KEY, NOW), Err(TokenError::Form), "digit {at}");
        }
        for wrong in [&token()[..31], b"", &[b'0'; 33]] {
            assert_eq!(secrets().verify(wrong, "device1", KEY, NOW), Err(TokenError::Form));
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(
            format!("{:?}", TokenSecrets::new(b"secret1", Some(b"x"))),
            "TokenSecrets(SigningKeys { previous: true, .. })"
        );
    }

    #[test]
    fn an_expiry_beyond_the_format_is_its_last_moment() {
        let token = secrets().issue("device1", KEY, u64::MAX);
        assert_eq!(&token[..8], b"ffffffff");
        assert_eq!(secrets().verify(&token, "device1", KEY, NOW), Ok(()));
    }
}
