//! Session tickets that every replica with the same keys accepts (RFC 5077; RFC 8446 section 4.6.1).
//!
//! 1. A secret of the configuration becomes a [`TicketKey`]. The authorities of clients go into it: with other
//!    authorities every ticket is an unknown one, as a certificate must be checked again then.
//! 2. A handshake has a [`ConnectionTickets`] of its own. It gives out a ticket for the session that begins.
//! 3. A ticket that comes back is accepted until it expires: [`TICKET_SECS`] after the full handshake, and not later than
//!    the certificate of the client. A resumed session gets a ticket with the expiry of the one that it came with, so nobody
//!    resumes for ever.
//! 4. A ticket that is not accepted, for whichever reason, leads to a full handshake.
//!
//! A ticket consists of the name of its key (16 bytes), a salt (16), a nonce (12), the expiry in seconds since 1970 (8), the
//! session as rustls writes it, and a tag (16). From the expiry on it is encrypted by AES-256-GCM, with the bytes before
//! as additional data. The key of that is HMAC-SHA256 of the salt: one key with random nonces alone would be good for 2^32
//! tickets (NIST SP 800-38D, section 8.3).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hmac::{Hmac, KeyInit, Mac};
use openssl::symm::{Cipher, decrypt_aead, encrypt_aead};
use sha2::Sha256;
use tokio_rustls::rustls::server::ProducesTickets;
use tokio_rustls::rustls::time_provider::TimeProvider;

use super::expiry::earliest_expiry_secs;
use crate::protocol::secret::Secret;

/// Time after a full handshake in which its session can be resumed; docs/configuration.md names it.
const TICKET_SECS: u64 = 24 * 60 * 60;

/// Bytes of a session that gets a ticket. A client sends its ticket in its first message, where a larger one would take much
/// of what it may send until TLS is agreed on; only long chains of certificates need more.
const SESSION_BYTES_MAX: usize = 8 * 1024;

const NAME_BYTES: usize = 16;
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
const HEAD_BYTES: usize = NAME_BYTES + SALT_BYTES + NONCE_BYTES;
const TAG_BYTES: usize = 16;

/// Keys of tickets: the first one encrypts, each of them decrypts.
#[derive(Debug)]
pub(super) struct TicketKeys(Vec<TicketKey>);

/// Keys that are derived from one secret. Never shown.
struct TicketKey {
    name: [u8; NAME_BYTES],
    encryption: Hmac<Sha256>,
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKey")
    }
}

impl TicketKeys {
    /// Keys of these secrets; `None` without any. `authorities` are certificates, in DER, that sign those of clients.
    pub(super) fn new<'a>(secrets: &[Secret], authorities: impl Iterator<Item = &'a [u8]> + Clone) -> Option<Self> {
        let key = |secret: &Secret| TicketKey::new(secret.expose().as_bytes(), authorities.clone());
        (!secrets.is_empty()).then(|| Self(secrets.iter().map(key).collect()))
    }

    fn seal(&self, expiry_secs: u64, session: &[u8]) -> Option<Vec<u8>> {
        let key = self.0.first()?;
        let mut ticket = vec![0; HEAD_BYTES];
        ticket[..NAME_BYTES].copy_from_slice(&key.name);
        getrandom::fill(&mut ticket[NAME_BYTES..]).ok()?;
        let (head, plain) = (&ticket[..], [&expiry_secs.to_be_bytes(), session].concat());
        let (salt, nonce) = head[NAME_BYTES..].split_at(SALT_BYTES);
        let mut tag = [0; TAG_BYTES];
        let cipher = Cipher::aes_256_gcm();
        let encrypted = encrypt_aead(cipher, &key.derive(salt), Some(nonce), head, &plain, &mut tag).ok()?;
        ticket.extend(encrypted);
        ticket.extend(tag);
        Some(ticket)
    }

    /// The expiry of a ticket in seconds since 1970, and its session.
    fn open(&self, ticket: &[u8]) -> Option<(u64, Vec<u8>)> {
        let (head, rest) = ticket.split_at_checked(HEAD_BYTES)?;
        let (encrypted, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
        let (name, rest) = head.split_at(NAME_BYTES);
        let (salt, nonce) = rest.split_at(SALT_BYTES);
        let key = self.0.iter().find(|key| key.name == name)?;
        let cipher = Cipher::aes_256_gcm();
        let plain = decrypt_aead(cipher, &key.derive(salt), Some(nonce), head, encrypted, tag).ok()?;
        let (expiry_secs, session) = plain.split_first_chunk()?;
        Some((u64::from_be_bytes(*expiry_secs), session.to_vec()))
    }
}

impl TicketKey {
    fn new<'a>(secret: &[u8], authorities: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut base = mac(secret);
        base.update(b"jetlinks-bridge TLS ticket");
        for authority in authorities {
            base.update(&(authority.len() as u64).to_be_bytes());
            base.update(authority);
        }
        let base = mac(&base.finalize().into_bytes());
        let derive = |purpose: &[u8]| base.clone().chain_update(purpose).finalize().into_bytes();
        let mut name = [0; NAME_BYTES];
        name.copy_from_slice(&derive(b"name")[..NAME_BYTES]);
        Self { name, encryption: mac(&derive(b"encryption")) }
    }

    /// The key of one ticket.
    fn derive(&self, salt: &[u8]) -> [u8; 32] {
        self.encryption.clone().chain_update(salt).finalize().into_bytes().into()
    }
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    // HMAC takes a key of any length.
    Hmac::new_from_slice(key).expect("any length will do")
}

/// Tickets of one handshake.
pub(super) struct ConnectionTickets {
    keys: Arc<TicketKeys>,
    time: Arc<dyn TimeProvider>,
    /// Expiry of the ticket that the client came with, in seconds since 1970, then that of the one it was given; 0 before.
    expiry_secs: AtomicU64,
}

impl fmt::Debug for ConnectionTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectionTickets")
    }
}

impl ConnectionTickets {
    pub(super) fn new(keys: Arc<TicketKeys>, time: Arc<dyn TimeProvider>) -> Self {
        Self { keys, time, expiry_secs: AtomicU64::new(0) }
    }

    fn now_secs(&self) -> Option<u64> {
        self.time.current_time().map(|now| now.as_secs())
    }
}

impl ProducesTickets for ConnectionTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        let left_secs =
            self.now_secs().map(|now_secs| self.expiry_secs.load(Ordering::Relaxed).saturating_sub(now_secs));
        left_secs.and_then(|secs| u32::try_from(secs).ok()).unwrap_or(0)
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        let now_secs = self.now_secs()?;
        let begun_with = match self.expiry_secs.load(Ordering::Relaxed) {
            0 => now_secs + TICKET_SECS,
            expiry_secs => expiry_secs,
        };
        let expiry_secs = begun_with.min(earliest_expiry_secs(session)?);
        self.expiry_secs.store(expiry_secs, Ordering::Relaxed);
        let is_worth_it = expiry_secs > now_secs && session.len() <= SESSION_BYTES_MAX;
        is_worth_it.then(|| self.keys.seal(expiry_secs, session)).flatten()
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (expiry_secs, session) = self.keys.open(ticket)?;
        if expiry_secs <= self.now_secs()? {
            return None;
        }
        self.expiry_secs.store(expiry_secs, Ordering::Relaxed);
        Some(session)
    }
}
