//! Sections `coap` and `dtls`.

use std::net::SocketAddr;
use std::time::Duration;

use super::material::Material;
use super::reader::Reader;
use super::section::section;
use crate::protocol::secret::Secret;

section! {
    /// CoAP over UDP, each payload encrypted with the device's key.
    CoapConfig {
        /// Addresses; empty is off.
        listen: Vec<SocketAddr> = listen("0.0.0.0:5683"),
        /// Oldest timestamp of a body that is taken; `None`, the default: any.
        max_age: Option<Duration> = optional_duration(),
        /// Whether messages of the type `direct` are taken.
        direct: bool = flag(false),
    }
}

section! {
    /// CoAP over DTLS 1.2.
    DtlsConfig checked by Self::check {
        /// Addresses; empty is off.
        listen: Vec<SocketAddr> = listen(""),
        /// Certificate chain of the server.
        certificate: Option<Material> = material(),
        /// Private key of the certificate.
        private_key: Option<Material> = material(),
        /// Secrets that sign tokens; a second one is the previous, still accepted.
        token_secret: Vec<Secret> = secrets(2),
        /// Lifetime of a token.
        token_ttl: Duration = duration("24h"),
        /// Longest silence of a DTLS session before it is dropped.
        idle_timeout: Duration = duration("24h"),
    }
}

impl DtlsConfig {
    fn check(&self, reader: &mut Reader<'_>) {
        if !self.listen.is_empty() {
            reader.missing("dtls.certificate", self.certificate.is_some(), "dtls.listen needs it");
            reader.missing("dtls.private_key", self.private_key.is_some(), "dtls.listen needs it");
        }
    }
}
