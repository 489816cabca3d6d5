//! Expiry of the client certificates that the bridge shows to NATS and Kafka, and of the JWT of its user on NATS.
//!
//! NATS: files are read again once a minute, as each connection reads them anew. Kafka: librdkafka reads them when its clients are made, so
//! what was there at the start counts until the process ends.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use openssl::pkcs12::Pkcs12;
use tokio::time::{MissedTickBehavior, interval};

use super::certificates::expiry_secs;
use crate::config::{CommandQueue, Config, Material, Secret, UplinkQueue};
use crate::queue::nats::user_expiry_secs;
use crate::telemetry::metric::{CertificateMetrics, CertificateUse, Label as _};
use crate::transport::{Clock, tls};

/// How often files are read.
const POLL_INTERVAL: Duration = Duration::from_secs(60);

/// Properties of librdkafka with a certificate.
const CERTIFICATE_FILE: &str = "ssl.certificate.location";
const CERTIFICATE_TEXT: &str = "ssl.certificate.pem";
const KEYSTORE_FILE: &str = "ssl.keystore.location";
const KEYSTORE_PASSWORD: &str = "ssl.keystore.password";

/// Client certificates and credentials of the bridge; `None` where it has none.
#[derive(Debug, Clone, Default)]
pub struct ClientCertificates {
    nats_certificate: Option<Material>,
    nats_credentials: Option<Material>,
    /// Expiry of the one that Kafka is shown, in seconds since 1970.
    kafka_expiry_secs: Option<u64>,
    /// Those that were logged as expired.
    told: Vec<CertificateUse>,
}

impl ClientCertificates {
    /// Reads what Kafka is shown. Files that cannot be read are no mistake here: whoever uses them says so.
    pub fn open(config: &Config) -> Self {
        let uses_kafka = config.uplink.queue == UplinkQueue::Kafka || config.commands.queue == CommandQueue::Kafka;
        let nats = |material: &Option<Material>| material.clone().filter(|_| config.has_nats_servers());
        Self {
            nats_certificate: nats(&config.nats.tls_certificate),
            nats_credentials: nats(&config.nats.credentials),
            kafka_expiry_secs: if uses_kafka { kafka_expiry_secs(&config.kafka.properties) } else { None },
            told: Vec::new(),
        }
    }

    /// Key and expiry, in seconds since 1970, of each that can be read and expires.
    pub fn expiries(&self) -> Vec<(&'static str, u64)> {
        let [certificate, user] = self.nats_expiries();
        let all = [
            ("nats.tls.certificate", certificate),
            ("nats.credentials", user),
            ("kafka.properties", self.kafka_expiry_secs),
        ];
        all.into_iter().filter_map(|(key, expiry)| Some((key, expiry?))).collect()
    }

    /// Expiry of the certificate and of the user that NATS is shown, read now.
    fn nats_expiries(&self) -> [Option<u64>; 2] {
        let read = |material: &Option<Material>| material.as_ref()?.read().ok();
        let certificate = read(&self.nats_certificate).and_then(|text| expiry_secs(text.expose()));
        [certificate, read(&self.nats_credentials).and_then(|text| user_expiry_secs(text.expose()))]
    }

    /// Reads the files of NATS until the future is dropped.
    pub async fn follow(mut self, metrics: Arc<CertificateMetrics>, clock: Clock) {
        let mut polls = interval(POLL_INTERVAL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            polls.tick().await;
            // The files may be on a slow network volume.
            let poll = tokio::task::spawn_blocking(move || {
                let [certificate, user] = self.nats_expiries();
                let expiries = [
                    (CertificateUse::NatsClient, certificate),
                    (CertificateUse::NatsCredentials, user),
                    (CertificateUse::KafkaClient, self.kafka_expiry_secs),
                ];
                (self, expiries)
            });
            // After a panic nothing is read any more.
            let Ok((read, expiries)) = poll.await else { return };
            self = read;
            let now_secs = clock.now().unix_ms / 1_000;
            for (label, expiry_secs) in expiries {
                metrics.expiry[label].set(expiry_secs.unwrap_or(0));
                self.tell(label, expiry_secs.is_some_and(|expiry| expiry <= now_secs));
            }
        }
    }

    /// Logs once that one has expired.
    fn tell(&mut self, label: CertificateUse, has_expired: bool) {
        let was_told = self.told.contains(&label);
        if has_expired && !was_told {
            self.told.push(label);
            tracing::error!(r#use = label.text(), "a client certificate or a user of the bridge has expired: renew it");
        } else if !has_expired && was_told {
            self.told.retain(|told| *told != label);
        }
    }
}

/// Expiry of the certificate that these properties of librdkafka name.
fn kafka_expiry_secs(properties: &[(String, Secret)]) -> Option<u64> {
    let property =
        |name: &str| properties.iter().find(|(known, _)| known == name).map(|(_, value)| value.expose().to_owned());
    if let Some(text) = property(CERTIFICATE_TEXT) {
        return expiry_secs(&text);
    }
    if let Some(path) = property(CERTIFICATE_FILE) {
        return expiry_secs(&fs::read_to_string(path).ok()?);
    }
    let store = Pkcs12::from_der(&fs::read(property(KEYSTORE_FILE)?).ok()?).ok()?;
    let opened = store.parse2(&property(KEYSTORE_PASSWORD).unwrap_or_default()).ok()?;
    let certificate = opened.cert?;
    tls::expiry_secs(&certificate)
}

#[cfg(test)]
mod tests {
    use openssl::asn1::Asn1Time;
    use openssl::hash::MessageDigest;
    use openssl::pkey::PKey;
    use openssl::rsa::Rsa;
    use openssl::x509::X509;

    use super::*;

    #[test]
    fn the_certificate_for_kafka_is_found_as_text_as_file_and_in_a_keystore() {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let mut certificate = X509::builder().unwrap();
        certificate.set_pubkey(&key).unwrap();
        certificate.set_not_before(&Asn1Time::from_unix(1_600_000_000).unwrap()).unwrap();
        certificate.set_not_after(&Asn1Time::from_unix(2_000_000_000).unwrap()).unwrap();
        certificate.sign(&key, MessageDigest::sha256()).unwrap();
        let certificate = certificate.build();
        let pem = String::from_utf8(certificate.to_pem().unwrap()).unwrap();
        let folder = std::env::temp_dir().join(format!("jetlinks-bridge-client-certificates-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (file, keystore) = (folder.join("client.pem"), folder.join("client.p12"));
        fs::write(&file, &pem).unwrap();
        let store = Pkcs12::builder().pkey(&key).cert(&certificate).build2("password").unwrap();
        fs::write(&keystore, store.to_der().unwrap()).unwrap();
        let [file, keystore] = [file, keystore].map(|path| path.display().to_string());
        for (properties, expected) in [
            (vec![(CERTIFICATE_TEXT, pem.as_str())], Some(2_000_000_000)),
            (vec![(CERTIFICATE_FILE, &file)], Some(2_000_000_000)),
            (vec![(KEYSTORE_FILE, &keystore), (KEYSTORE_PASSWORD, "password")], Some(2_000_000_000)),
            (vec![(KEYSTORE_FILE, &keystore), (KEYSTORE_PASSWORD, "wrong")], None),
            (vec![(CERTIFICATE_FILE, "/nowhere")], None),
            (vec![], None),
        ] {
            let properties: Vec<_> =
                properties.into_iter().map(|(name, value)| (name.to_owned(), Secret::new(value.to_owned()))).collect();
            assert_eq!(kafka_expiry_secs(&properties), expected, "{properties:?}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
