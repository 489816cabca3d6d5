//! The configured registry, and the effects of its changes on sessions, metrics and health.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::runtime::Handle;

use super::replica::LocalReplica;
use super::settings;
use crate::config::{Config, RegistrySource};
use crate::protocol::id::DeviceId;
use crate::protocol::uplink::Availability;
use crate::queue::nats::ConnectionTallies;
use crate::registry::{Asked, Change, FileRegistry, HttpRegistry, NatsRegistry, Registry, Reload, Watch};
use crate::session::mqtt::Ending;
use crate::telemetry::health::{Health, PartState};
use crate::telemetry::metric::{RegistryAnswer, RegistryMetrics};

/// Opens the registry: a file is read, a server is not connected to yet. `name` appears in the monitoring of NATS, and
/// `tallies` count the connection to it.
///
/// # Errors
/// A file that cannot be read or has mistakes, or settings that cannot be used.
pub fn open(config: &Config, name: &str, tallies: &ConnectionTallies) -> anyhow::Result<Registry> {
    Ok(match config.registry.source {
        RegistrySource::File => {
            let path = config.registry.file.as_deref().context("registry.file.path is not set")?;
            let file = FileRegistry::open(path, config.registry.product_secrets)
                .with_context(|| format!("registry.file.path: {}", path.display()))?;
            Registry::File(Arc::new(file))
        }
        RegistrySource::Nats => {
            let settings = settings::nats_registry(config, name, tallies).context("registry.source: nats")?;
            Registry::Nats(Arc::new(NatsRegistry::new(settings)))
        }
        RegistrySource::Http => {
            let settings = settings::http_registry(config).context("registry.http.url is not set")?;
            Registry::Http(Arc::new(HttpRegistry::new(&settings).context("registry.http")?))
        }
    })
}

/// Recipients of changes.
#[derive(Debug, Clone)]
pub struct ChangeHandler {
    /// Counts them.
    pub metrics: Arc<RegistryMetrics>,
    /// State of the registry.
    pub health: Arc<Health>,
    /// Sessions, ended where their device is not permitted any more.
    pub replica: Arc<LocalReplica>,
}

/// Follows the registry: a file by a thread of its own until the handle is dropped, anything else by a task of `runtime`.
///
/// # Errors
/// The system gives no thread.
pub fn start(registry: &Registry, handler: ChangeHandler, runtime: &Handle) -> anyhow::Result<Option<Watch>> {
    match registry.clone() {
        Registry::File(file) => return watch_file(&file, handler).map(Some),
        Registry::Nats(nats) => {
            runtime.spawn(async move { nats.follow(|change| handler.take(&change)).await });
        }
        Registry::Http(http) => {
            let replica = handler.replica.clone();
            let is_connected = move |device: &str| replica.directory.find(device).is_some();
            runtime.spawn(async move { http.follow(is_connected, |change| handler.take(&change)).await });
        }
    }
    Ok(None)
}

fn watch_file(file: &Arc<FileRegistry>, handler: ChangeHandler) -> anyhow::Result<Watch> {
    handler.health.registry.set(0, PartState::Ok);
    handler.metrics.devices.set(file.len() as u64);
    let path = file.path().display().to_string();
    Watch::start(file.clone(), move |reload| match reload {
        Reload::Unchanged => {}
        Reload::Replaced { devices, ended } => {
            handler.metrics.replaced(devices);
            handler.metrics.stale.set(0);
            let closed = handler.end(&ended);
            tracing::info!(path, devices, closed, "the registry file was read again");
        }
        Reload::Refused(error) => {
            handler.metrics.refused();
            handler.metrics.stale.set(1);
            tracing::error!(path, %error, "the registry file has mistakes; the version before stays in force");
        }
    })
    .context("the registry's thread")
}

impl ChangeHandler {
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
                let answer = match outcome {
                    Asked::Found => RegistryAnswer::Found,
                    Asked::Unknown => RegistryAnswer::Unknown,
                    Asked::Unreadable => RegistryAnswer::Unreadable,
                    Asked::Refused => RegistryAnswer::Refused,
                    Asked::Failed => RegistryAnswer::Failed,
                };
                self.metrics.requests[answer].inc();
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

    /// Ends the sessions of these devices; returns their number.
    fn end(&self, devices: &[DeviceId]) -> usize {
        devices.iter().filter(|device| self.replica.end(device.as_str(), Ending::Kicked)).count()
    }
}
