//! Certificates of the listeners: read at the start, and again when their files change.
//!
//! 1. Every file is read and tried before a port is bound.
//! 2. Files are polled once a second. A change counts once two polls in a row read the same: certificate and key are two
//!    files, and a renewal writes one after the other.
//! 3. A valid pair is used for all handshakes that begin from then on. An invalid one changes nothing, nor does one that has
//!    expired while the one in force has not; a metric is set until the files are valid again.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use openssl::asn1::Asn1Time;
use openssl::x509::{X509, X509Ref};
use tokio::time::{MissedTickBehavior, interval};

use crate::config::{Config, Material, Secret};
use crate::telemetry::metric::{CertificateMetrics, CertificateUse, ListenerCertificate, ReloadResult};
use crate::transport::tls::{TlsError, TlsServer};
use crate::transport::{Clock, dtls};

/// Interval between two polls of the files.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// TLS and DTLS configuration of the listeners; `None` where no listener needs it.
#[derive(Debug, Clone, Default)]
pub struct Certificates {
    /// For MQTT over TLS, with WebSocket or without.
    pub tls: Option<TlsServer>,
    /// For CoAP over DTLS.
    pub dtls: Option<dtls::Server>,
    sources: Vec<Source>,
}

/// Files or contents of one server's certificate and key.
#[derive(Debug, Clone)]
struct Source {
    server: Server,
    certificate: Material,
    private_key: Material,
    client_ca: Option<Material>,
    in_use: Contents,
}

#[derive(Debug, Clone)]
enum Server {
    Tls(TlsServer),
    Dtls(dtls::Server),
}

/// Contents of the files of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Contents {
    certificate: Secret,
    private_key: Secret,
    client_ca: Option<Secret>,
}

impl Certificates {
    /// Reads the certificates that the configured listeners need.
    ///
    /// # Errors
    /// Each unusable file or text, one line each, with its key.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let mut opened = Self::default();
        let mut mistakes = Vec::new();
        let tls = &config.mqtt.tls;
        if !tls.listen.is_empty() || !config.mqtt.websocket_tls.listen.is_empty() {
            match Source::open_tls(&tls.certificate, &tls.private_key, &tls.client_ca) {
                Ok((server, source)) => {
                    opened.tls = Some(server);
                    opened.sources.push(source);
                }
                Err(error) => mistakes.push(format!("{error:#}")),
            }
        }
        let dtls = &config.dtls;
        if !dtls.listen.is_empty() {
            match Source::open_dtls(&dtls.certificate, &dtls.private_key) {
                Ok((server, source)) => {
                    opened.dtls = Some(server);
                    opened.sources.push(source);
                }
                Err(error) => mistakes.push(format!("{error:#}")),
            }
        }
        if mistakes.is_empty() { Ok(opened) } else { bail!(mistakes.join("\n")) }
    }

    /// Key and expiry of each certificate, in seconds since 1970.
    pub fn expiries(&self) -> Vec<(&'static str, u64)> {
        let key = |source: &Source| match source.server {
            Server::Tls(_) => "mqtt.tls.certificate",
            Server::Dtls(_) => "dtls.certificate",
        };
        self.sources.iter().filter_map(|source| Some((key(source), source.in_use.expiry_secs()?))).collect()
    }

    /// Polls the files until the future is dropped.
    pub async fn follow(self, metrics: Arc<CertificateMetrics>, clock: Clock) {
        for source in &self.sources {
            source.report_expiry(&metrics, clock);
        }
        let mut followed: Vec<_> = self.sources.into_iter().map(|source| (source, PollState::default())).collect();
        let mut polls = interval(POLL_INTERVAL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !followed.is_empty() {
            polls.tick().await;
            // The files may be on a slow network volume; nothing else waits for them.
            let now_secs = clock.now().unix_ms / 1_000;
            let poll = tokio::task::spawn_blocking(move || {
                for (source, poll) in &mut followed {
                    source.poll(poll, now_secs);
                }
                followed
            });
            // After a panic nothing is polled any more; the certificates in use stay.
            let Ok(polled) = poll.await else { return };
            followed = polled;
            for (source, poll) in &mut followed {
                source.report(poll, &metrics, clock);
            }
        }
    }
}

/// State of the polls of one source.
#[derive(Debug, Default)]
struct PollState {
    /// Contents at the last poll, where they are not in use.
    seen: Option<Result<Contents, String>>,
    /// Contents that were tried last and refused.
    refused: Option<Result<Contents, String>>,
    result: Option<PollResult>,
}

#[derive(Debug)]
enum PollResult {
    Replaced,
    Refused(String),
    /// The files hold again what is in use.
    Restored,
}

impl Source {
    fn open_tls(
        certificate: &Option<Material>,
        private_key: &Option<Material>,
        client_ca: &Option<Material>,
    ) -> anyhow::Result<(TlsServer, Self)> {
        let certificate = certificate.clone().context("mqtt.tls.certificate is not set")?;
        let private_key = private_key.clone().context("mqtt.tls.private_key is not set")?;
        let client_ca = client_ca.clone();
        let contents = Contents::read("mqtt.tls", &certificate, &private_key, client_ca.as_ref())?;
        let server = contents.tls()?;
        let source =
            Self { server: Server::Tls(server.clone()), certificate, private_key, client_ca, in_use: contents };
        Ok((server, source))
    }

    fn open_dtls(
        certificate: &Option<Material>,
        private_key: &Option<Material>,
    ) -> anyhow::Result<(dtls::Server, Self)> {
        let certificate = certificate.clone().context("dtls.certificate is not set")?;
        let private_key = private_key.clone().context("dtls.private_key is not set")?;
        let contents = Contents::read("dtls", &certificate, &private_key, None)?;
        let server = contents.dtls()?;
        let source =
            Self { server: Server::Dtls(server.clone()), certificate, private_key, client_ca: None, in_use: contents };
        Ok((server, source))
    }

    fn section(&self) -> &'static str {
        match self.server {
            Server::Tls(_) => "mqtt.tls",
            Server::Dtls(_) => "dtls",
        }
    }

    fn label(&self) -> ListenerCertificate {
        match self.server {
            Server::Tls(_) => ListenerCertificate::Mqtt,
            Server::Dtls(_) => ListenerCertificate::Dtls,
        }
    }

    /// Reads the files; uses their contents once they have changed, equal those of the last poll, and are valid.
    fn poll(&mut self, poll: &mut PollState, now_secs: u64) {
        let read = Contents::read(self.section(), &self.certificate, &self.private_key, self.client_ca.as_ref())
            .map_err(|error| format!("{error:#}"));
        if read.as_ref() == Ok(&self.in_use) {
            poll.seen = None;
            poll.result = poll.refused.take().map(|_| PollResult::Restored);
            return;
        }
        if poll.seen.as_ref() != Some(&read) {
            poll.seen = Some(read);
            return;
        }
        if poll.refused.as_ref() == Some(&read) {
            return;
        }
        let replaced =
            read.clone().and_then(|contents| self.replace(contents, now_secs).map_err(|error| format!("{error:#}")));
        poll.result = Some(match replaced {
            Ok(()) => {
                (poll.seen, poll.refused) = (None, None);
                PollResult::Replaced
            }
            Err(reason) => {
                poll.refused = Some(read);
                PollResult::Refused(reason)
            }
        });
    }

    fn replace(&mut self, contents: Contents, now_secs: u64) -> anyhow::Result<()> {
        let has_expired = |contents: &Contents| contents.expiry_secs().is_some_and(|expiry| expiry <= now_secs);
        if has_expired(&contents) && !has_expired(&self.in_use) {
            bail!("{}.certificate: it has expired, and the one before has not", self.section());
        }
        match &self.server {
            Server::Tls(server) => server.replace(&contents.tls()?),
            Server::Dtls(server) => server.replace(&contents.dtls()?),
        }
        self.in_use = contents;
        Ok(())
    }

    fn report(&self, poll: &mut PollState, metrics: &CertificateMetrics, clock: Clock) {
        let listener = self.section();
        match poll.result.take() {
            None => {}
            Some(PollResult::Replaced) => {
                metrics.reloads[ReloadResult::Replaced].inc();
                metrics.stale[self.label()].set(0);
                self.report_expiry(metrics, clock);
                tracing::info!(listener, "a renewed certificate is in force");
            }
            Some(PollResult::Restored) => metrics.stale[self.label()].set(0),
            Some(PollResult::Refused(error)) => {
                metrics.reloads[ReloadResult::Refused].inc();
                metrics.stale[self.label()].set(1);
                tracing::error!(listener, error, "a renewed certificate cannot be used; the one before stays in force");
            }
        }
    }

    fn report_expiry(&self, metrics: &CertificateMetrics, clock: Clock) {
        let Some(expiry_secs) = self.in_use.expiry_secs() else { return };
        let label = match self.server {
            Server::Tls(_) => CertificateUse::Mqtt,
            Server::Dtls(_) => CertificateUse::Dtls,
        };
        metrics.expiry[label].set(expiry_secs);
        if expiry_secs <= clock.now().unix_ms / 1_000 {
            tracing::error!(listener = self.section(), "the certificate has expired: devices that check it stay away");
        }
    }
}

impl Contents {
    fn read(
        section: &str,
        certificate: &Material,
        private_key: &Material,
        client_ca: Option<&Material>,
    ) -> anyhow::Result<Self> {
        let mut mistakes = Vec::new();
        let mut read = |key: &str, material: &Material| {
            let read = material.read().with_context(|| match material.path() {
                Some(path) => format!("{section}.{key}: {}", path.display()),
                None => format!("{section}.{key}"),
            });
            read.map_err(|error| mistakes.push(format!("{error:#}"))).ok()
        };
        let (certificate, private_key) = (read("certificate", certificate), read("private_key", private_key));
        let client_ca = client_ca.map(|material| read("client_ca", material));
        match (certificate, private_key, client_ca.as_ref().is_none_or(Option::is_some)) {
            (Some(certificate), Some(private_key), true) => {
                Ok(Self { certificate, private_key, client_ca: client_ca.flatten() })
            }
            _ => bail!(mistakes.join("\n")),
        }
    }

    fn expiry_secs(&self) -> Option<u64> {
        expiry_secs(self.certificate.expose())
    }

    fn tls(&self) -> anyhow::Result<TlsServer> {
        let client_ca = self.client_ca.as_ref().map(Secret::expose);
        TlsServer::new(self.certificate.expose(), self.private_key.expose(), client_ca).map_err(|error| {
            let key = match error {
                TlsError::Certificate(_) => "mqtt.tls.certificate",
                TlsError::PrivateKey(_) => "mqtt.tls.private_key",
                TlsError::Pair(_) => "mqtt.tls.certificate, mqtt.tls.private_key",
                TlsError::ClientCa(_) => "mqtt.tls.client_ca",
            };
            anyhow::Error::new(error).context(key)
        })
    }

    fn dtls(&self) -> anyhow::Result<dtls::Server> {
        dtls::Server::new(self.certificate.expose(), self.private_key.expose())
            .context("dtls.certificate, dtls.private_key")
    }
}

/// Expiry of the first certificate, in seconds since 1970.
pub(super) fn expiry_secs(certificate: &str) -> Option<u64> {
    let certificate = X509::from_pem(certificate.as_bytes()).ok()?;
    expiry_of(&certificate)
}

/// Expiry of a certificate, in seconds since 1970.
pub(super) fn expiry_of(certificate: &X509Ref) -> Option<u64> {
    let left = Asn1Time::from_unix(0).ok()?.diff(certificate.not_after()).ok()?;
    u64::try_from(i64::from(left.days) * 86_400 + i64::from(left.secs)).ok()
}
