//! Certificates of the listeners, and keys of session tickets: read at the start, and again when their files change.
//!
//! 1. Every file is read and tried before a port is bound.
//! 2. Files are polled once a second. A change counts once two polls in a row read the same: certificate and key are two
//!    files, and a renewal writes one after the other.
//! 3. A valid pair is used for all handshakes that begin from then on. An invalid one changes nothing, nor does one that has
//!    expired while the one in force has not; a metric is set until the files are valid again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use openssl::x509::X509;
use tokio::time::{MissedTickBehavior, interval};

use crate::config::{Config, DtlsConfig, Material, MqttTlsConfig, Secret, SecretList};
use crate::telemetry::metric::{CertificateMetrics, CertificateUse, ReloadResult};
use crate::transport::tls::{self, TlsError, TlsServer};
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
    files: Files,
    in_use: Contents,
}

/// Parts of a server: files, or the texts themselves.
#[derive(Debug, Clone)]
struct Files {
    section: &'static str,
    certificate: Material,
    private_key: Material,
    client_ca: Option<Material>,
    ticket_key: SecretList,
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
    ticket_key: Vec<Secret>,
}

impl Certificates {
    /// Reads the certificates that the configured listeners need.
    ///
    /// # Errors
    /// Each unusable file or text, one line each, with its key.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let (mut opened, mut mistakes) = (Self::default(), Vec::new());
        let (mqtt, dtls) = (&config.mqtt, &config.dtls);
        if (!mqtt.tls.listen.is_empty() || !mqtt.websocket_tls.listen.is_empty())
            && let Some((server, source)) = noted(Source::open_tls(&mqtt.tls), &mut mistakes)
        {
            opened.tls = Some(server);
            opened.sources.push(source);
        }
        if !dtls.listen.is_empty()
            && let Some((server, source)) = noted(Source::open_dtls(dtls), &mut mistakes)
        {
            opened.dtls = Some(server);
            opened.sources.push(source);
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
    Replaced(Renewed),
    Refused(String),
    /// The files hold again what is in use.
    Restored,
}

/// Part that changed with the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renewed {
    Certificate,
    /// These alone.
    TicketKeys,
}

impl Source {
    fn open_tls(config: &MqttTlsConfig) -> anyhow::Result<(TlsServer, Self)> {
        let mut files = Files::of("mqtt.tls", &config.certificate, &config.private_key)?;
        (files.client_ca, files.ticket_key) = (config.client_ca.clone(), config.ticket_key.clone());
        let in_use = files.read()?;
        let server = in_use.tls()?;
        Ok((server.clone(), Self { server: Server::Tls(server), files, in_use }))
    }

    fn open_dtls(config: &DtlsConfig) -> anyhow::Result<(dtls::Server, Self)> {
        let files = Files::of("dtls", &config.certificate, &config.private_key)?;
        let in_use = files.read()?;
        let server = in_use.dtls()?;
        Ok((server.clone(), Self { server: Server::Dtls(server), files, in_use }))
    }

    fn label(&self) -> CertificateUse {
        match self.server {
            Server::Tls(_) => CertificateUse::Mqtt,
            Server::Dtls(_) => CertificateUse::Dtls,
        }
    }

    /// Reads the files; uses their contents once they have changed, equal those of the last poll, and are valid.
    fn poll(&mut self, poll: &mut PollState, now_secs: u64) {
        let read = self.files.read().map_err(|error| format!("{error:#}"));
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
            Ok(renewed) => {
                (poll.seen, poll.refused) = (None, None);
                PollResult::Replaced(renewed)
            }
            Err(reason) => {
                poll.refused = Some(read);
                PollResult::Refused(reason)
            }
        });
    }

    fn replace(&mut self, contents: Contents, now_secs: u64) -> anyhow::Result<Renewed> {
        let has_expired = |contents: &Contents| contents.expiry_secs().is_some_and(|expiry| expiry <= now_secs);
        if has_expired(&contents) && !has_expired(&self.in_use) {
            bail!("{}.certificate: it has expired, and the one before has not", self.files.section);
        }
        match &self.server {
            Server::Tls(server) => server.replace(&contents.tls()?),
            Server::Dtls(server) => server.replace(&contents.dtls()?),
        }
        let before = Contents { ticket_key: contents.ticket_key.clone(), ..self.in_use.clone() };
        let renewed = if before == contents { Renewed::TicketKeys } else { Renewed::Certificate };
        self.in_use = contents;
        Ok(renewed)
    }

    fn report(&self, poll: &mut PollState, metrics: &CertificateMetrics, clock: Clock) {
        let listener = self.files.section;
        match poll.result.take() {
            None => {}
            Some(PollResult::Replaced(renewed)) => {
                metrics.reloads[ReloadResult::Replaced].inc();
                metrics.stale[self.label()].set(0);
                self.report_expiry(metrics, clock);
                match renewed {
                    Renewed::Certificate => tracing::info!(listener, "a renewed certificate is in force"),
                    Renewed::TicketKeys => tracing::info!(listener, "renewed keys of session tickets are in force"),
                }
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
        metrics.expiry[self.label()].set(expiry_secs);
        if expiry_secs <= clock.now().unix_ms / 1_000 {
            tracing::error!(
                listener = self.files.section,
                "the certificate has expired: devices that check it stay away"
            );
        }
    }
}

impl Files {
    fn of(section: &'static str, certificate: &Option<Material>, key: &Option<Material>) -> anyhow::Result<Self> {
        Ok(Self {
            section,
            certificate: certificate.clone().with_context(|| format!("{section}.certificate is not set"))?,
            private_key: key.clone().with_context(|| format!("{section}.private_key is not set"))?,
            client_ca: None,
            ticket_key: SecretList::default(),
        })
    }

    fn read(&self) -> anyhow::Result<Contents> {
        let mut mistakes = Vec::new();
        let read = |key, material: &Material| material.read().with_context(|| self.origin(key, material.path()));
        let certificate = noted(read("certificate", &self.certificate), &mut mistakes);
        let private_key = noted(read("private_key", &self.private_key), &mut mistakes);
        let client_ca = self.client_ca.as_ref().and_then(|ca| noted(read("client_ca", ca), &mut mistakes));
        let ticket_key = self.ticket_key.read().with_context(|| self.origin("ticket_key", self.ticket_key.path()));
        let ticket_key = noted(ticket_key, &mut mistakes);
        match (certificate, private_key, ticket_key) {
            (Some(certificate), Some(private_key), Some(ticket_key)) if mistakes.is_empty() => {
                Ok(Contents { certificate, private_key, client_ca, ticket_key })
            }
            _ => bail!(mistakes.join("\n")),
        }
    }

    /// A key of the section, with its file.
    fn origin(&self, key: &str, path: Option<&Path>) -> String {
        let section = self.section;
        path.map_or_else(|| format!("{section}.{key}"), |path| format!("{section}.{key}: {}", path.display()))
    }
}

/// The result, or `None` and a line with all of its error.
fn noted<T>(result: anyhow::Result<T>, mistakes: &mut Vec<String>) -> Option<T> {
    result.map_err(|error| mistakes.push(format!("{error:#}"))).ok()
}

impl Contents {
    fn expiry_secs(&self) -> Option<u64> {
        expiry_secs(self.certificate.expose())
    }

    fn tls(&self) -> anyhow::Result<TlsServer> {
        let client_ca = self.client_ca.as_ref().map(Secret::expose);
        let (certificate, private_key) = (self.certificate.expose(), self.private_key.expose());
        TlsServer::new(certificate, private_key, client_ca, &self.ticket_key).map_err(|error| {
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
    tls::expiry_secs(&certificate)
}
