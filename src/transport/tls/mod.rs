//! TLS 1.2 and 1.3 for connections of devices, by rustls: certificate, key, who signs certificates of devices, and tickets.

mod expiry;
mod stream;
mod ticket;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use openssl::nid::Nid;
use openssl::x509::X509;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

pub use expiry::expiry_secs;
pub use stream::TlsStream;

use crate::protocol::secret::Secret;
use ticket::{ConnectionTickets, TicketKeys};

/// Why certificate, key or authority cannot be used; of DTLS as well, which has no authority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// No certificate can be read.
    #[error("no PEM certificate can be read: {0}")]
    Certificate(String),
    /// No key can be read; an encrypted one cannot.
    #[error("no PEM key without a passphrase can be read: {0}")]
    PrivateKey(String),
    /// The key is not that of the first certificate, or the TLS library refuses the pair for another reason.
    #[error("the key does not serve the certificate: {0}")]
    Pair(String),
    /// The authority of devices cannot be read.
    #[error("no PEM certificate can be read: {0}")]
    ClientCa(String),
}

/// The TLS configuration of a listener. Cheap to clone; all clones see a replacement.
#[derive(Clone)]
pub struct TlsServer {
    settings: Arc<RwLock<Settings>>,
}

/// Settings of new handshakes.
#[derive(Clone)]
struct Settings {
    config: Arc<ServerConfig>,
    /// `None` where no session can be resumed.
    tickets: Option<Arc<TicketKeys>>,
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsServer")
    }
}

impl TlsServer {
    /// A server with that chain (its own certificate first) and its key, all PEM. With `client_ca`, a client must show
    /// a certificate that one of these authorities signed. With `ticket_secrets`, a client may resume its session with
    /// every server that has these; the first one is for new tickets.
    ///
    /// # Errors
    /// [`TlsError`] says which of them is wrong.
    pub fn new(
        certificate: &str,
        private_key: &str,
        client_ca: Option<&str>,
        ticket_secrets: &[Secret],
    ) -> Result<Self, TlsError> {
        let authorities = match client_ca {
            None => Vec::new(),
            Some(client_ca) => certificates(client_ca).map_err(TlsError::ClientCa)?,
        };
        let tickets = TicketKeys::new(ticket_secrets, authorities.iter().map(AsRef::as_ref)).map(Arc::new);
        let mut config = config(certificate, private_key, authorities)?;
        // A client uses a ticket once (RFC 8446, section C.4), and gets another one each time.
        config.send_tls13_tickets = usize::from(tickets.is_some());
        let settings = Settings { config: Arc::new(config), tickets };
        Ok(Self { settings: Arc::new(RwLock::new(settings)) })
    }

    /// Lets handshakes that begin from now on use what `newer` has; connections go on as they are.
    pub fn replace(&self, newer: &Self) {
        let newer = newer.settings();
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = newer;
    }

    /// The configuration of one handshake.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        let Settings { config, tickets } = self.settings();
        let Some(keys) = tickets else { return config };
        let mut own = (*config).clone();
        own.ticketer = Arc::new(ConnectionTickets::new(keys, own.time_provider.clone()));
        Arc::new(own)
    }

    fn settings(&self) -> Settings {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn config(
    certificate: &str,
    private_key: &str,
    authorities: Vec<CertificateDer<'static>>,
) -> Result<ServerConfig, TlsError> {
    let chain = certificates(certificate).map_err(TlsError::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(private_key.as_bytes())
        .map_err(|error| TlsError::PrivateKey(error.to_string()))?;
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| TlsError::Pair(error.to_string()))?;
    let builder = if authorities.is_empty() {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority).map_err(|error| TlsError::ClientCa(error.to_string()))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| TlsError::ClientCa(error.to_string()))?;
        builder.with_client_cert_verifier(verifier)
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| TlsError::Pair(error.to_string()))?;
    // What a single replica remembers helps nobody behind a balancer.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match all {
        Ok(all) if all.is_empty() => Err("there is none".to_owned()),
        Ok(all) => Ok(all),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether a certificate names the device: as common name of its subject, or as a DNS name among its alternative names.
pub fn names(certificate: &[u8], device: &str) -> bool {
    let Ok(certificate) = X509::from_der(certificate) else { return false };
    let is_subject = certificate
        .subject_name()
        .entries_by_nid(Nid::COMMONNAME)
        .any(|entry| entry.data().to_string().is_ok_and(|name| name == device));
    let alternatives = certificate.subject_alt_names();
    is_subject || alternatives.is_some_and(|all| all.iter().any(|name| name.dnsname() == Some(device)))
}
