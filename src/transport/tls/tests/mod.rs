//! Handshakes of rustls with itself in memory, with a clock of the test.

mod stream;
mod tickets;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509Name, X509NameBuilder};
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::pki_types::UnixTime;
use tokio_rustls::rustls::time_provider::TimeProvider;
use tokio_rustls::rustls::{ClientConfig, SupportedProtocolVersion};

use super::*;

/// Begin of the time of the tests, in seconds since 1970; every certificate begins earlier.
const BEGIN_SECS: u64 = 1_700_000_000;
const HOUR_SECS: u64 = 3_600;
const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// Clock that stands still until it is set.
#[derive(Debug, Clone)]
struct TestClock(Arc<AtomicU64>);

impl TestClock {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(BEGIN_SECS)))
    }

    fn set(&self, secs: u64) {
        self.0.store(BEGIN_SECS + secs, Ordering::Relaxed);
    }
}

impl TimeProvider for TestClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::Relaxed))))
    }
}

/// A certificate with its key, both as PEM.
struct Pair {
    certificate: X509,
    key: PKey<Private>,
}

impl Pair {
    /// A certificate that is good until so many seconds behind [`BEGIN_SECS`]; one without an issuer is an authority.
    fn new(name: &str, issuer: Option<&Pair>, expiry_secs: u64) -> Self {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut builder = X509::builder().unwrap();
        let subject = named(name);
        builder.set_version(2).unwrap();
        builder.set_subject_name(&subject).unwrap();
        builder.set_issuer_name(issuer.map_or(&*subject, |issuer| issuer.certificate.subject_name())).unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.set_not_before(&Asn1Time::from_unix(BEGIN_SECS as i64 - 1_000).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::from_unix((BEGIN_SECS + expiry_secs) as i64).unwrap()).unwrap();
        if issuer.is_none() {
            builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        }
        let names = SubjectAlternativeName::new().dns(name).build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(names).unwrap();
        builder.sign(issuer.map_or(&key, |issuer| &issuer.key), MessageDigest::sha256()).unwrap();
        Self { certificate: builder.build(), key }
    }

    fn certificate(&self) -> String {
        String::from_utf8(self.certificate.to_pem().unwrap()).unwrap()
    }

    fn private_key(&self) -> String {
        String::from_utf8(self.key.private_key_to_pem_pkcs8().unwrap()).unwrap()
    }

    fn der(&self) -> Vec<u8> {
        self.certificate.to_der().unwrap()
    }
}

fn named(name: &str) -> X509Name {
    let mut builder = X509NameBuilder::new().unwrap();
    builder.append_entry_by_nid(Nid::COMMONNAME, name).unwrap();
    builder.build()
}

/// Authorities, a server's certificate, and the clock of all servers.
struct World {
    clock: TestClock,
    authority: Pair,
    own: Pair,
}

impl World {
    fn new() -> Self {
        let authority = Pair::new("authority", None, 1_000 * HOUR_SECS);
        let own = Pair::new("localhost", Some(&authority), 1_000 * HOUR_SECS);
        Self { clock: TestClock::new(), authority, own }
    }

    fn server(&self, client_ca: Option<&Pair>, secrets: &[&str]) -> TlsServer {
        let secrets: Vec<_> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
        let client_ca = client_ca.map(Pair::certificate);
        let (certificate, key) = (self.own.certificate(), self.own.private_key());
        let server = TlsServer::new(&certificate, &key, client_ca.as_deref(), &secrets).unwrap();
        let mut settings = server.settings();
        Arc::make_mut(&mut settings.config).time_provider = Arc::new(self.clock.clone());
        *server.settings.write().unwrap() = settings;
        server
    }

    /// A client that knows no session yet.
    fn client(&self, version: &'static SupportedProtocolVersion, own: Option<&Pair>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.authority.der())).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::from_pem_slice(own.private_key().as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![CertificateDer::from(own.der())], key).unwrap()
            }
        };
        config.resumption = Resumption::in_memory_sessions(16);
        config.time_provider = Arc::new(TestClock::new());
        Arc::new(config)
    }
}
