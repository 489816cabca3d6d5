//! Cipher suites as the protection of records needs them.

use std::sync::OnceLock;

use hmac::{Hmac, KeyInit, Mac};
use openssl::cipher::{Cipher, CipherRef};
use openssl::cipher_ctx::CipherCtx;
use openssl::error::ErrorStack;
use sha2::{Sha256, Sha384};

/// Bytes of the longest key.
pub(super) const KEY_BYTES_MAX: usize = 32;

/// Bytes of a nonce.
pub(super) const NONCE_BYTES: usize = 12;

/// Bytes of the longest tag.
pub(super) const TAG_BYTES_MAX: usize = 16;

/// The encryption of a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suite {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
    Aes128Ccm,
    Aes256Ccm,
    Aes128Ccm8,
    Aes256Ccm8,
}

impl Suite {
    /// The suite that OpenSSL calls so; `None` for one that is not served.
    pub(super) fn named(name: &str) -> Option<Self> {
        let (_, encryption) = name.strip_prefix("ECDHE-")?.split_once('-')?;
        Some(match encryption {
            "AES128-GCM-SHA256" => Self::Aes128Gcm,
            "AES256-GCM-SHA384" => Self::Aes256Gcm,
            "CHACHA20-POLY1305" => Self::ChaCha20Poly1305,
            "AES128-CCM" => Self::Aes128Ccm,
            "AES256-CCM" => Self::Aes256Ccm,
            "AES128-CCM8" => Self::Aes128Ccm8,
            "AES256-CCM8" => Self::Aes256Ccm8,
            _ => return None,
        })
    }

    pub(super) fn key_bytes(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes128Ccm | Self::Aes128Ccm8 => 16,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 | Self::Aes256Ccm | Self::Aes256Ccm8 => 32,
        }
    }

    /// Bytes of a nonce that come with each record; the others come from the handshake (RFC 5288 section 3, RFC 6655
    /// section 3; RFC 7905 section 2 has none).
    pub(super) fn explicit_bytes(self) -> usize {
        if self == Self::ChaCha20Poly1305 { 0 } else { 8 }
    }

    pub(super) fn tag_bytes(self) -> usize {
        if matches!(self, Self::Aes128Ccm8 | Self::Aes256Ccm8) { 8 } else { TAG_BYTES_MAX }
    }

    fn is_ccm(self) -> bool {
        matches!(self, Self::Aes128Ccm | Self::Aes256Ccm | Self::Aes128Ccm8 | Self::Aes256Ccm8)
    }

    /// The cipher, looked up once: for each record that would cost as much as the encryption.
    fn cipher(self) -> &'static CipherRef {
        static FETCHED: [OnceLock<Option<Cipher>>; 5] = [const { OnceLock::new() }; 5];
        let (place, name, unfetched) = match self {
            Self::Aes128Gcm => (0, "AES-128-GCM", Cipher::aes_128_gcm()),
            Self::Aes256Gcm => (1, "AES-256-GCM", Cipher::aes_256_gcm()),
            Self::ChaCha20Poly1305 => (2, "ChaCha20-Poly1305", Cipher::chacha20_poly1305()),
            Self::Aes128Ccm | Self::Aes128Ccm8 => (3, "AES-128-CCM", Cipher::aes_128_ccm()),
            Self::Aes256Ccm | Self::Aes256Ccm8 => (4, "AES-256-CCM", Cipher::aes_256_ccm()),
        };
        FETCHED[place].get_or_init(|| Cipher::fetch(None, name, None).ok()).as_deref().unwrap_or(unfetched)
    }

    /// Fills `output` with the PRF of TLS 1.2 (RFC 5246 section 5).
    pub(super) fn expand(self, secret: &[u8], seed: &[u8], output: &mut [u8]) -> Option<()> {
        match self {
            Self::Aes256Gcm => expand(&Hmac::<Sha384>::new_from_slice(secret).ok()?, seed, output),
            _ => expand(&Hmac::<Sha256>::new_from_slice(secret).ok()?, seed, output),
        }
        Some(())
    }

    /// Encrypts `plain` to the end of `output`, its tag behind it.
    pub(super) fn encrypt(
        self,
        key: &[u8],
        nonce: &[u8; NONCE_BYTES],
        additional: &[u8],
        plain: &[u8],
        output: &mut Vec<u8>,
    ) -> Result<(), ErrorStack> {
        let mut context = CipherCtx::new()?;
        context.encrypt_init(Some(self.cipher()), None, None)?;
        context.set_iv_length(NONCE_BYTES)?;
        // CCM takes lengths before its key, and the length of the text before all that follows.
        if self.is_ccm() {
            context.set_tag_length(self.tag_bytes())?;
        }
        context.encrypt_init(None, Some(key), Some(nonce))?;
        if self.is_ccm() {
            context.set_data_len(plain.len())?;
        }
        context.cipher_update(additional, None)?;
        context.cipher_update_vec(plain, output)?;
        context.cipher_final_vec(output)?;
        let end = output.len();
        output.resize(end + self.tag_bytes(), 0);
        context.tag(&mut output[end..])
    }

    /// Decrypts `encrypted` to the begin of `output`, which has room for it. An error when it, its tag or `additional`
    /// is another one; what `output` holds then means nothing. `encrypted` is not empty: CCM would not look at the tag.
    pub(super) fn decrypt(
        self,
        key: &[u8],
        nonce: &[u8; NONCE_BYTES],
        additional: &[u8],
        (encrypted, tag): (&[u8], &[u8]),
        output: &mut [u8],
    ) -> Result<usize, ErrorStack> {
        let mut context = CipherCtx::new()?;
        context.decrypt_init(Some(self.cipher()), None, None)?;
        context.set_iv_length(NONCE_BYTES)?;
        context.set_tag(tag)?;
        context.decrypt_init(None, Some(key), Some(nonce))?;
        if self.is_ccm() {
            context.set_data_len(encrypted.len())?;
        }
        context.cipher_update(additional, None)?;
        let bytes = context.cipher_update(encrypted, Some(output))?;
        // CCM has checked the tag by then.
        if !self.is_ccm() {
            context.cipher_final(&mut [])?;
        }
        Ok(bytes)
    }
}

fn expand<M: Mac + Clone>(keyed: &M, seed: &[u8], output: &mut [u8]) {
    let of = |parts: &[&[u8]]| {
        let mut mac = keyed.clone();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes()
    };
    let mut chained = of(&[seed]);
    for block in output.chunks_mut(chained.len()) {
        block.copy_from_slice(&of(&[&chained, seed])[..block.len()]);
        chained = of(&[&chained]);
    }
}
