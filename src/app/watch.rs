//! The registry of the configuration, and what follows from its changes.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::sessions::ReplicaSessions;
use super::settings;
use crate::config::{Config, RegistrySource};
use crate::protocol::id::DeviceId;
use crate::protocol::uplink::Availability;
use crate::registry::{Asked, Change, FileRegistry, HttpRegistry, NatsRegistry, Registry, Reload, Watch};
use crate::session::mqtt::Ending;
use crate::telemetry::health::{Health, PartState};
use crate::telemetry::metric::{RegistryAnswer, RegistryMetrics};

/// Opens the registry: a file is read, anything else is not asked yet. `name` is shown to servers.
///
/// # Errors
/// A file that cannot be read or has mistakes, or settings that cannot be used.
pub fn open(config: &Config, name: &str) -> anyhow::Result<Registry> {
    Ok(match config.registry.source {
        RegistrySource::File => {
            let path = config.registry.file.as_deref().context("registry.file.path is not set")?;
            let file = FileRegistry::open(path, config.registry.product_secrets)
                .with_context(|| format!("registry.file.path: {}", path.display()))?;
            Registry::File(Arc::new(file))
        }
        RegistrySource::Nats => {
            let settings = settings::nats_registry(config, name).context("registry.source: nats")?;
            Registry::Nats(Arc::new(NatsRegistry::new(settings)))
        }
        RegistrySource::Http => {
            let settings = settings::http_registry(config).context("registry.http.url is not set")?;
            Registry::Http(Arc::new(HttpRegistry::new(&settings).context("registry.http")?))
        }
    })
}

/// Who hears of changes.
#[derive(Debug, Clone)]
pub struct News {
    /// Counts them.
    pub metrics: Arc<RegistryMetrics>,
    /// Knows whether the registry answers.
    pub health: Arc<Health>,
    /// Ends sessions that are not permitted any more.
    pub sessions: ReplicaSessions,
}

/// Follows a registry until it is dropped.
#[derive(Debug)]
pub enum Following {
    /// A file, by its own thread.
    File {
        /// The thread.
        _watch: Watch,
    },
    /// Something over the network, by a task.
    Network(JoinHandle<()>),
}

impl Drop for Following {
    fn drop(&mut self) {
        if let Following::Network(task) = self {
            task.abort();
        }
    }
}

/// Follows the registry: a file by a thread of its own, anything else by a task of `runtime`.
///
/// # Errors
/// The system gives no thread.
pub fn start(registry: &Registry, news: News, runtime: &Handle) -> anyhow::Result<Following> {
    Ok(match registry {
        Registry::File(file) => Following::File { _watch: watch_file(file, news)? },
        Registry::Nats(nats) => {
            let nats = nats.clone();
            Following::Network(runtime.spawn(async move { nats.follow(|change| news.take(&change)).await }))
        }
        Registry::Http(http) => {
            let (http, sessions) = (http.clone(), news.sessions.clone());
            let is_connected = move |device: &str| sessions.directory.find(device).is_some();
            Following::Network(
                runtime.spawn(async move { http.follow(is_connected, |change| news.take(&change)).await }),
            )
        }
    })
}

fn watch_file(file: &Arc<FileRegistry>, news: News) -> anyhow::Result<Watch> {
    news.health.registry.set(0, PartState::Ok);
    news.metrics.devices.set(file.len() as u64);
    let path = file.path().display().to_string();
    Watch::start(file.clone(), move |reload| match reload {
        Reload::Unchanged => {}
        Reload::Replaced { devices, ended } => {
            news.metrics.replaced(devices);
            news.metrics.stale.set(0);
            let closed = news.end(&ended);
            tracing::info!(path, devices, closed, "the registry file was read again");
        }
        Reload::Refused(error) => {
            news.metrics.refused();
            news.metrics.stale.set(1);
            tracing::error!(path, %error, "the registry file has mistakes; the version before stays in force");
        }
    })
    .context("the registry's thread")
}

impl News {
    fn take(&self, change: &Change) {
        match change {
            Change::Devices { known, ended } => {
                self.metrics.replaced(*known);
                let closed = self.end(ended);
                tracing::debug!(devices = known, closed, "the registry changed");
            }
            Change::Unreadable { record, mistakes } => {
                self.metrics.refused();
                let mistakes: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
                tracing::warn!(record, mistakes = mistakes.join("; "), "a record of the registry cannot be read");
            }
            Change::Known(devices) => self.metrics.devices.set(*devices as u64),
            Change::Asked { outcome, took } => {
                self.metrics.requests.inc(match outcome {
                    Asked::Found => RegistryAnswer::Found,
                    Asked::Unknown => RegistryAnswer::Unknown,
                    Asked::Unreadable => RegistryAnswer::Unreadable,
                    Asked::Refused => RegistryAnswer::Refused,
                    Asked::Failed => RegistryAnswer::Failed,
                });
                self.metrics.request.observe_us(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
            }
            Change::Availability(availability) => {
                self.health.registry.set(0, *availability);
                self.metrics.stale.set(u64::from(*availability == Availability::Away));
                if *availability == Availability::Ok {
                    tracing::info!(devices = self.metrics.devices.get(), "the registry answers");
                }
            }
        }
    }

    /// Ends the sessions of these devices; how many there were.
    fn end(&self, devices: &[DeviceId]) -> usize {
        devices.iter().filter(|device| self.sessions.end(device.as_str(), Ending::Kicked)).count()
    }
}
