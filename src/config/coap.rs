//! Sections `coap` and `dtls`.

use std::net::SocketAddr;
use std::time::Duration;

use super::material::Material;
use super::reader::Reader;
use crate::protocol::secret::Secret;

/// CoAP over UDP, each payload encrypted with the device's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoapConfig {
    /// Addresses; empty is off. Default `0.0.0.0:5683`.
    pub listen: Vec<SocketAddr>,
    /// Oldest timestamp of a body that is taken; `None`, the default: any.
    pub max_age: Option<Duration>,
    /// Whether messages of the type `direct` are taken. Default no.
    pub direct: bool,
}

/// CoAP over DTLS 1.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DtlsConfig {
    /// Addresses; empty, the default, is off.
    pub listen: Vec<SocketAddr>,
    /// Certificate chain of the server.
    pub certificate: Option<Material>,
    /// Private key of the certificate.
    pub private_key: Option<Material>,
    /// Secrets that sign tokens; a second one is the previous, still accepted. At most two.
    pub token_secret: Vec<Secret>,
    /// Lifetime of a token. Default 24 h.
    pub token_ttl: Duration,
    /// Longest silence of a DTLS session before it is dropped. Default 24 h.
    pub idle_timeout: Duration,
}

impl CoapConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            listen: reader.listen("coap.listen", "0.0.0.0:5683"),
            max_age: reader.optional_duration("coap.max_age"),
            direct: reader.flag("coap.direct", false),
        }
    }
}

impl DtlsConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let dtls = Self {
            listen: reader.listen("dtls.listen", ""),
            certificate: reader.material("dtls.certificate"),
            private_key: reader.material("dtls.private_key"),
            token_secret: reader.secrets("dtls.token_secret", 2),
            token_ttl: reader.duration("dtls.token_ttl", "24h"),
            idle_timeout: reader.duration("dtls.idle_timeout", "24h"),
        };
        if !dtls.listen.is_empty() {
            reader.missing("dtls.certificate", dtls.certificate.is_some(), "dtls.listen needs it");
            reader.missing("dtls.private_key", dtls.private_key.is_some(), "dtls.listen needs it");
        }
        dtls
    }
}
