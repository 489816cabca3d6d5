//! The encryption of bodies on the port without DTLS: AES-128 in ECB mode with PKCS#7 padding (JetLinks).
//!
//! It hides a body and proves little: equal blocks look equal, a datagram can be replayed, blocks of several recorded ones
//! can be put together, and about one forgery in 256 has a padding that is right by chance. So more than the padding must
//! be right before anything is written: see `session::coap::Refusal::Unproven`. Devices know no other mode, so nothing
//! better can be chosen here.

use aes::Aes128;
use ecb::cipher::block_padding::Pkcs7;
use ecb::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyInit};

/// Bytes of a key: those of `secureKey`.
pub const KEY_BYTES: usize = 16;

/// Bytes of a block; a body is a whole number of them, and longer than its plaintext by 1 to 16 bytes.
pub const BLOCK_BYTES: usize = 16;

/// A body is not a whole number of blocks, or its padding is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body cannot be decrypted")]
pub struct Undecryptable;

/// The key that a device's secret is; `None` when it has not exactly 16 bytes.
pub fn key(secure_key: &str) -> Option<&[u8; KEY_BYTES]> {
    secure_key.as_bytes().try_into().ok()
}

/// Decrypts a body in its place.
///
/// # Errors
/// [`Undecryptable`]; what is left in `body` then means nothing.
pub fn decrypt(key: &[u8; KEY_BYTES], body: &mut Vec<u8>) -> Result<(), Undecryptable> {
    let plain = ecb::Decryptor::<Aes128>::new(key.into()).decrypt_padded::<Pkcs7>(body).map_err(|_| Undecryptable)?;
    let plain_bytes = plain.len();
    body.truncate(plain_bytes);
    Ok(())
}

/// Encrypts a body, as a device does.
pub fn encrypt(key: &[u8; KEY_BYTES], plain: &[u8]) -> Vec<u8> {
    let mut body = vec![0; (plain.len() / BLOCK_BYTES + 1) * BLOCK_BYTES];
    body[..plain.len()].copy_from_slice(plain);
    let encrypted = ecb::Encryptor::<Aes128>::new(key.into()).encrypt_padded::<Pkcs7>(&mut body, plain.len());
    // The buffer has the room that the padding needs.
    debug_assert!(encrypted.is_ok());
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    const LETTERS: &[u8; 16] = b"testtesttesttest";
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

    /// Made with `printf PLAIN | openssl enc -aes-128-ecb -K $(printf KEY | xxd -p) | xxd -p`; the first is the
    /// example of the protocol.
    const VECTORS: &[(&[u8; 16], &str, &str)] = &[
        (LETTERS, "{\"data\":1}", "94eb8f4b2dc849a2d2396383b6498335"),
        (LETTERS, "", "a816ce96f6dfc4199fcd2c0b4847aeec"),
        (DIGITS, "", "34af336c9f031b3556738c63e61ea2f6"),
        (DIGITS, "0123456789abcdef", "2ae1068641014724b8d0cbab7d9e054e34af336c9f031b3556738c63e61ea2f6"),
        (
            DIGITS,
            "{\"properties\":{\"temperature\":36.8,\"humidity\":51}}",
            "9da6c5c0dcc08b4e6b8ec29e91d402ad24353828fb21d88da39db692b01d50bb\
             b8069e932de00e34e75929f0ff28b2046c5509fed2edb105fffcf4ebfdb0d8f3",
        ),
        (
            LETTERS,
            "{\"messageId\":\"m1\",\"timestamp\":1601196762389,\"properties\":{\"text\":\"温度\"}}",
            "3350273240de16cf382d3a70c53064276f32db8ba43fb13b301af99d2dba33575889c859ba0f184772fa72d42154f2c4\
             f5269068436f9c4498a68b55f9dc36306f96b1869e9df603d8b4ad3083379d31",
        ),
    ];

    fn bytes(hex: &str) -> Vec<u8> {
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
        (0..hex.len()).step_by(2).map(byte).collect()
    }

    #[test]
    fn bodies_are_those_that_openssl_makes() {
        for (key, plain, hex) in VECTORS {
            assert_eq!(encrypt(key, plain.as_bytes()), bytes(hex), "{plain}");
            let mut body = bytes(hex);
            assert_eq!(decrypt(key, &mut body), Ok(()));
            assert_eq!(body, plain.as_bytes());
        }
    }

    #[test]
    fn another_key_a_cut_body_and_an_empty_one_cannot_be_decrypted() {
        let (_, _, hex) = VECTORS[0];
        assert_eq!(decrypt(DIGITS, &mut bytes(hex)), Err(Undecryptable));
        assert_eq!(decrypt(LETTERS, &mut bytes(&hex[..30])), Err(Undecryptable));
        assert_eq!(decrypt(LETTERS, &mut Vec::new()), Err(Undecryptable));
    }

    #[test]
    fn only_a_secret_of_16_bytes_is_a_key() {
        assert_eq!(key("testtesttesttest"), Some(LETTERS));
        for wrong in ["", "short", "testtesttesttest1", "温度温度温度"] {
            assert_eq!(key(wrong), None, "{wrong}");
        }
    }
}
