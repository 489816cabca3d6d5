//! The certificates of listeners: read at the start, and again when their files change.
//!
//! 1. Every file is read and tried before a port is bound.
//! 2. Files are looked at once a second. A change counts once it is the same at two looks: certificate and key are two
//!    files, and whoever renews them writes one after the other.
//! 3. What is whole comes into force for handshakes that begin from then on. What is not changes nothing, and a metric
//!    says so until it is mended.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use openssl::asn1::Asn1Time;
use openssl::x509::X509;
use tokio::time::{MissedTickBehavior, interval};

use crate::config::{Config, Material, Secret};
use crate::telemetry::metric::{CertificateMetrics, CertificateUse, ReloadResult};
use crate::transport::tls::{TlsError, TlsServer};
use crate::transport::{Clock, dtls};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What the listeners of this process show; a server is there when a listener needs it.
#[derive(Debug, Clone, Default)]
pub struct Certificates {
    /// For MQTT over TLS, with WebSocket or without.
    pub tls: Option<TlsServer>,
    /// For CoAP over DTLS.
    pub dtls: Option<dtls::Server>,
    sources: Vec<Source>,
}

/// Where a server's material comes from.
#[derive(Debug, Clone)]
struct Source {
    server: Server,
    certificate: Material,
    private_key: Material,
    client_ca: Option<Material>,
    in_force: Texts,
}

#[derive(Debug, Clone)]
enum Server {
    Tls(TlsServer),
    Dtls(dtls::Server),
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Texts {
    certificate: Secret,
    private_key: Secret,
    client_ca: Option<Secret>,
}

impl Certificates {
    /// Reads what the listeners of the configuration need.
    ///
    /// # Errors
    /// Every file or text that cannot be used, a line each, with its key.
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

    /// Looks at the files until the future is dropped.
    pub async fn follow(self, metrics: Arc<CertificateMetrics>, clock: Clock) {
        for source in &self.sources {
            source.tell_expiry(&metrics, clock);
        }
        let mut followed: Vec<_> = self.sources.into_iter().map(|source| (source, Look::default())).collect();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !followed.is_empty() {
            looks.tick().await;
            // Files of a mounted volume; the process' other business does not wait for them.
            let look = tokio::task::spawn_blocking(move || {
                for (source, look) in &mut followed {
                    source.look(look);
                }
                followed
            });
            // A panic ends the looks; what is in force stays.
            let Ok(looked) = look.await else { return };
            followed = looked;
            for (source, look) in &mut followed {
                source.tell(look, &metrics, clock);
            }
        }
    }
}

/// What the looks at a source saw.
#[derive(Debug, Default)]
struct Look {
    /// What the last look read, where that is not in force.
    seen: Option<Result<Texts, String>>,
    /// What was tried last and is not in force.
    refused: Option<Result<Texts, String>>,
    news: Option<News>,
}

#[derive(Debug)]
enum News {
    Replaced,
    Refused(String),
    /// What is in force is what the files hold again.
    Back,
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
        let texts = Texts::read("mqtt.tls", &certificate, &private_key, client_ca.as_ref())?;
        let server = texts.tls()?;
        let source = Self { server: Server::Tls(server.clone()), certificate, private_key, client_ca, in_force: texts };
        Ok((server, source))
    }

    fn open_dtls(
        certificate: &Option<Material>,
        private_key: &Option<Material>,
    ) -> anyhow::Result<(dtls::Server, Self)> {
        let certificate = certificate.clone().context("dtls.certificate is not set")?;
        let private_key = private_key.clone().context("dtls.private_key is not set")?;
        let texts = Texts::read("dtls", &certificate, &private_key, None)?;
        let server = texts.dtls()?;
        let source =
            Self { server: Server::Dtls(server.clone()), certificate, private_key, client_ca: None, in_force: texts };
        Ok((server, source))
    }

    fn section(&self) -> &'static str {
        match self.server {
            Server::Tls(_) => "mqtt.tls",
            Server::Dtls(_) => "dtls",
        }
    }

    fn label(&self) -> CertificateUse {
        match self.server {
            Server::Tls(_) => CertificateUse::Mqtt,
            Server::Dtls(_) => CertificateUse::Dtls,
        }
    }

    /// Reads the files and puts them in force when they changed, are the same as at the last look, and are well.
    fn look(&mut self, look: &mut Look) {
        let read = Texts::read(self.section(), &self.certificate, &self.private_key, self.client_ca.as_ref())
            .map_err(|error| format!("{error:#}"));
        if read.as_ref() == Ok(&self.in_force) {
            look.seen = None;
            look.news = look.refused.take().map(|_| News::Back);
            return;
        }
        if look.seen.as_ref() != Some(&read) {
            look.seen = Some(read);
            return;
        }
        if look.refused.as_ref() == Some(&read) {
            return;
        }
        let replaced = read.clone().and_then(|texts| self.replace(texts).map_err(|error| format!("{error:#}")));
        look.news = Some(match replaced {
            Ok(()) => {
                (look.seen, look.refused) = (None, None);
                News::Replaced
            }
            Err(reason) => {
                look.refused = Some(read);
                News::Refused(reason)
            }
        });
    }

    fn replace(&mut self, texts: Texts) -> anyhow::Result<()> {
        match &self.server {
            Server::Tls(server) => server.replace(&texts.tls()?),
            Server::Dtls(server) => server.replace(&texts.dtls()?),
        }
        self.in_force = texts;
        Ok(())
    }

    fn tell(&self, look: &mut Look, metrics: &CertificateMetrics, clock: Clock) {
        let listener = self.section();
        match look.news.take() {
            None => {}
            Some(News::Replaced) => {
                metrics.reloads.inc(ReloadResult::Replaced);
                metrics.stale.set(self.label(), 0);
                self.tell_expiry(metrics, clock);
                tracing::info!(listener, "a renewed certificate is in force");
            }
            Some(News::Back) => metrics.stale.set(self.label(), 0),
            Some(News::Refused(error)) => {
                metrics.reloads.inc(ReloadResult::Refused);
                metrics.stale.set(self.label(), 1);
                tracing::error!(listener, error, "a renewed certificate cannot be used; the one before stays in force");
            }
        }
    }

    fn tell_expiry(&self, metrics: &CertificateMetrics, clock: Clock) {
        let Some(expiry_secs) = expiry_secs(self.in_force.certificate.expose()) else { return };
        metrics.expiry.set(self.label(), expiry_secs);
        if expiry_secs <= clock.now().unix_ms / 1_000 {
            tracing::error!(listener = self.section(), "the certificate has expired: devices that check it stay away");
        }
    }
}

impl Texts {
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

/// When the first certificate expires, in seconds since 1970.
fn expiry_secs(certificate: &str) -> Option<u64> {
    let certificate = X509::from_pem(certificate.as_bytes()).ok()?;
    let left = Asn1Time::from_unix(0).ok()?.diff(certificate.not_after()).ok()?;
    u64::try_from(i64::from(left.days) * 86_400 + i64::from(left.secs)).ok()
}
