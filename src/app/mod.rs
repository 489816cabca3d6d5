//! Start, wiring and shutdown of the process.
//!
//! 1. Signal handlers are installed before anything else: see [`Startup`].
//! 2. Everything that can be wrong is checked before a port is bound: configuration, registry file, certificates,
//!    settings of the queues.
//! 3. Listeners are bound, then each worker gets a thread with its own runtime and queue connections.
//! 4. The main thread serves the admin listener and waits for a signal.
//! 5. The first signal starts the drain, a second one ends the process at once.

mod certificates;
mod client_certificates;
mod coap;
mod commands;
mod coordination;
mod counts;
mod descriptors;
mod follow;
mod listeners;
mod local_task;
mod measured;
mod meter;
mod notices;
mod queues;
mod registry;
mod replica;
mod sessions;
pub mod settings;
mod shed;
mod signals;
mod spans;
mod systemd;
mod watch;
mod worker;

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use self::certificates::Certificates;
use self::client_certificates::ClientCertificates;
use self::commands::ReplicaCommands;
use self::coordination::CoordinationThread;
pub use self::descriptors::raise_limit as raise_open_files;
use self::follow::RemoteFollowers;
#[doc(hidden)]
pub use self::measured::registry_and_meter;
use self::notices::DeviceNotices;
use self::queues::Queues;
pub use self::queues::{check_kafka, check_nats};
use self::registry::RegistryAdapter;
use self::replica::LocalReplica;
use self::sessions::ReplicaSessions;
use self::shed::Shedding;
pub use self::signals::{Signals, Startup};
use self::spans::Tracing;
use self::systemd::ServiceManager;
use crate::config::{CommandQueue, Config, DrainConfig};
use crate::protocol::command::MessageIds;
use crate::queue::nats::ConnectionTallies;
use crate::registry::Registry;
use crate::replica::request::ASKED_MAX;
use crate::replica::{Directory, WorkerMessage, WorkerSender};
use crate::telemetry::admin::{self, Admin, STREAMS_MAX};
use crate::telemetry::follow::Followers;
use crate::telemetry::health::Health;
use crate::telemetry::log::LogControl;
use crate::telemetry::metric::Metrics;
use crate::telemetry::span::SpanExport;
use crate::transport::{Clock, ConnectionLimit, Drained, ReplicaHandle};

/// Capacity of the channel from the queue of commands to a worker.
const COMMANDS_WAITING: usize = 1024;

/// Time that the shutdown may take beyond `drain.timeout`: for the last outcomes, spans and log lines.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Part of [`SHUTDOWN_GRACE`] that is kept for spans and log.
const FLUSH_GRACE: Duration = Duration::from_secs(3);

/// Error that ends the bridge early.
#[derive(Debug)]
pub enum Failure {
    /// The configuration, or a file that it names.
    Configuration(anyhow::Error),
    /// A failure of the system, at start or later.
    Run(anyhow::Error),
}

/// Streams of the queue `stdio`.
pub struct Stdio {
    /// Commands, one a line.
    pub input: Box<dyn Read + Send>,
    /// Envelopes, one a line.
    pub output: Box<dyn Write + Send>,
}

impl Default for Stdio {
    /// The process' own.
    fn default() -> Self {
        Self { input: Box::new(io::stdin()), output: Box::new(io::stdout()) }
    }
}

/// Runs the bridge until a signal ends it. Returns success when everything was acknowledged by then, or when the signal came
/// before a port was bound. The admin listener changes the level of `log`.
///
/// # Errors
/// The cause, with the key, file or address concerned.
pub fn run(config: &Config, log: LogControl, mut startup: Startup, stdio: Stdio) -> Result<ExitCode, Failure> {
    let replica_id = replica_id().map_err(Failure::Run)?;
    let tallies = ConnectionTallies::default();
    let registry = watch::open(config, &replica_id, &tallies).map_err(Failure::Configuration)?;
    let queues = Queues::new(config, &replica_id, tallies, stdio.output).map_err(Failure::Configuration)?;
    let certificates = Certificates::open(config).map_err(Failure::Configuration)?;
    let export = spans::prepare(config, &replica_id).map_err(Failure::Configuration)?;
    if startup.has_signal() {
        tracing::info!("a signal came before the start was complete");
        return Ok(ExitCode::SUCCESS);
    }
    let parts = Parts { registry, queues, input: stdio.input, certificates, export, log };
    serve(config, &replica_id, parts, startup).map_err(Failure::Run)
}

/// Checks certificates and the export of spans, as [`run`] does before it binds a port.
///
/// # Errors
/// Each unusable setting, one line each, with its key.
pub fn check_listeners(config: &Config) -> anyhow::Result<()> {
    Certificates::open(config)?;
    spans::prepare(config, "")?;
    Ok(())
}

/// Key and expiry, in seconds since 1970, of each certificate and user of the bridge that can be read.
pub fn certificate_expiries(config: &Config) -> Vec<(&'static str, u64)> {
    let listeners = Certificates::open(config).map(|certificates| certificates.expiries()).unwrap_or_default();
    listeners.into_iter().chain(ClientCertificates::open(config).expiries()).collect()
}

/// Sends the collector of spans an export of none.
///
/// # Errors
/// The cause, in words.
pub async fn ask_collector(config: &Config) -> Result<(), String> {
    match spans::prepare(config, "").map_err(|error| format!("{error:#}"))? {
        Some(export) => export.ask().await,
        None => Ok(()),
    }
}

/// A warning when the hard limit of open files is too low for `limits.connections`.
pub fn check_open_files(config: &Config) -> Option<String> {
    let limit = descriptors::hard_limit().ok()?;
    descriptors::FileShare::of(limit, config).warning(config)
}

/// Raises the limit of open files and returns the share of it that devices may take.
fn file_share(config: &Config) -> anyhow::Result<descriptors::FileShare> {
    let limit = descriptors::raise_limit().context("the limit of open files")?;
    let share = descriptors::FileShare::of(limit, config);
    if let Some(warning) = share.warning(config) {
        tracing::warn!("{warning}");
    }
    Ok(share)
}

/// Parts that were checked before a port is bound.
struct Parts {
    registry: Registry,
    queues: Queues,
    input: Box<dyn Read + Send>,
    certificates: Certificates,
    export: Option<SpanExport>,
    log: LogControl,
}

fn serve(config: &Config, replica_id: &str, parts: Parts, startup: Startup) -> anyhow::Result<ExitCode> {
    let Parts { registry, queues, input, certificates, export, log } = parts;
    let Startup { runtime, signals } = startup;
    let workers = config.runtime.workers;

    let health = Arc::new(Health::new(workers));
    if config.has_nats_servers() {
        health.expect_coordination();
    }
    if config.commands.queue != CommandQueue::None {
        health.expect_commands();
    }
    if config.admin.full_not_ready {
        health.expect_room();
    }
    let clock = Clock::new();
    let followers = Arc::new(Followers::new(replica_id));
    let shared = worker::Shared {
        queues: queues.clone(),
        health: health.clone(),
        notices: Arc::new(DeviceNotices::new()),
        followers: followers.clone(),
        replica_id: replica_id.to_owned(),
        clock,
    };
    let metrics = Arc::new(Metrics::new(health.clone(), clock.now().unix_ms));
    counts::collect(&metrics, &queues, &registry, &log);
    let directory = Arc::new(Directory::default());
    let files = file_share(config)?;
    counts::limits(&metrics, files.connections(config), config.limits.inflight_bytes);
    let connection_limit = Arc::new(ConnectionLimit::new(config.limits.connections, files.bounds));
    let (worker_senders, messages): (Vec<_>, Vec<_>) = (0..workers).map(|_| WorkerSender::new()).unzip();
    let worker_senders: Arc<[WorkerSender]> = worker_senders.into();
    let local = Arc::new(LocalReplica {
        replica_id: replica_id.to_owned(),
        directory: directory.clone(),
        health: health.clone(),
        clock,
        shedding: Arc::new(Shedding::new(directory.clone(), health.clone(), clock)),
        followers,
        remote: RemoteFollowers::default(),
        worker_senders: worker_senders.clone(),
    });
    let (others, asked) = mpsc::channel(ASKED_MAX);
    let others = config.has_nats_servers().then_some(others);
    let sessions = ReplicaSessions { local: local.clone(), others };

    let listeners = listeners::bind_all(config, certificates.tls.as_ref())?;
    let dtls = certificates.dtls.clone().map(|server| coap::prepare(config, server)).transpose()?;
    let mut ports = coap::bind(config, dtls.as_ref(), workers)?.into_iter();
    let admin = listeners::bind_admin(config)?;

    let handler =
        watch::ChangeHandler { metrics: metrics.registry.clone(), health: health.clone(), replica: local.clone() };
    let _watch = watch::start(&registry, handler, runtime.handle())?;
    let (shedding, shed_senders) = (local.shedding.clone(), worker_senders.clone());
    runtime.spawn(async move { shedding.run(&shed_senders).await });
    runtime.spawn(certificates.follow(metrics.certificates.clone(), clock));
    runtime.spawn(ClientCertificates::open(config).follow(metrics.certificates.clone(), clock));
    let tracing = Tracing::start(export, config.tracing.sample_ratio, &metrics)?;
    let cluster_events = if config.has_nats_servers() {
        let coordination = CoordinationThread {
            settings: queues.nats.clone(),
            replica_id: replica_id.to_owned(),
            directory: directory.clone(),
            asked,
            respond: local,
            worker_senders: worker_senders.clone(),
            health: health.clone(),
            metrics: metrics.coordination.clone(),
            clock,
        };
        Some(coordination.spawn()?)
    } else {
        None
    };
    let (senders, commands): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(COMMANDS_WAITING)).unzip();
    // A random start, so that message ids of two runs differ; see `MessageIds`.
    let first_id = getrandom::u64()?;
    let mut threads = Vec::new();
    for (index, ((listeners, messages), commands)) in listeners.into_iter().zip(messages).zip(commands).enumerate() {
        let plan = worker::Plan {
            replica: ReplicaHandle {
                index,
                directory: directory.clone(),
                connection_limit: connection_limit.clone(),
                worker_senders: worker_senders.clone(),
                cluster_events: cluster_events.clone(),
            },
            shared: shared.clone(),
            listeners,
            ports: ports.next().unwrap_or_default(),
            messages,
            commands: (senders[index].clone(), commands),
            registry: Arc::new(RegistryAdapter { registry: registry.clone(), metrics: metrics.worker(index) }),
            metrics: metrics.worker(index),
            tracer: tracing.tracer()?,
            message_ids: MessageIds::new(first_id, index, workers),
        };
        threads.push(worker::spawn(plan, config).with_context(|| format!("worker {index}"))?);
    }
    let kafka = metrics.kafka.clone();
    let ages = move |age: Duration| kafka.age.observe_us(u64::try_from(age.as_micros()).unwrap_or(u64::MAX));
    let commands = ReplicaCommands::new(config, sessions.clone(), senders.clone(), queues.calls.clone());
    queues.read_commands(input, directory, senders, tracing.tracer()?, ages)?;
    health.set_listening();
    tracing::info!(replica = replica_id, version = env!("CARGO_PKG_VERSION"), workers, "bridge started");

    let commands = Arc::new(commands);
    let serving =
        Serving { config, health, metrics, sessions, commands, connection_limit, worker_senders, queues, log, tracing };
    let ended = runtime.block_on(serving.until_signal(admin, threads, signals));
    // A blocked file system call must not keep the process from ending.
    runtime.shutdown_background();
    ended
}

struct Serving<'a> {
    config: &'a Config,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    sessions: ReplicaSessions,
    commands: Arc<ReplicaCommands>,
    connection_limit: Arc<ConnectionLimit>,
    worker_senders: Arc<[WorkerSender]>,
    queues: Queues,
    log: LogControl,
    tracing: Tracing,
}

impl Serving<'_> {
    async fn until_signal(
        self,
        admin: Vec<std::net::TcpListener>,
        threads: Vec<thread::JoinHandle<anyhow::Result<Drained>>>,
        mut signals: Signals,
    ) -> anyhow::Result<ExitCode> {
        let streams = Arc::new(Semaphore::new(STREAMS_MAX));
        for listener in admin {
            let admin = Admin {
                health: self.health.clone(),
                metrics: self.metrics.clone(),
                sessions: Arc::new(self.sessions.clone()),
                sheds: Arc::new(self.sessions.clone()),
                follows: Arc::new(self.sessions.clone()),
                streams: streams.clone(),
                commands: self.commands.clone(),
                deployment: settings::deployment(self.config, &self.sessions.local.replica_id),
                log: self.log.clone(),
                token: self.config.admin.token.clone(),
            };
            let listener = tokio::net::TcpListener::from_std(listener).context("admin.listen")?;
            tokio::spawn(async move { admin::serve(listener, admin).await.map(|never| match never {}) });
        }
        let manager = Arc::new(ServiceManager::find());
        let (told, health) = (manager.clone(), self.health.clone());
        tokio::spawn(async move { told.follow(&health).await });
        let ended = join(threads);
        tokio::pin!(ended);
        tokio::select! {
            () = signals.next() => {}
            reason = self.queues.broken() => tracing::error!(reason, "the queue is gone for good"),
            outcome = &mut ended => {
                outcome?;
                anyhow::bail!("a worker ended by itself");
            }
        }
        tracing::info!("shutting down: sessions are closed once their messages are acknowledged");
        self.health.set_draining();
        self.connection_limit.drain();
        self.queues.stop_commands();
        let longest = self.drain();
        let latest = Instant::now() + longest;
        manager.stopping(longest);
        tokio::select! {
            outcome = self.end(ended, latest) => outcome,
            () = signals.next_apart() => {
                tracing::warn!("a second signal: ending at once");
                Ok(ExitCode::FAILURE)
            }
            () = sleep_until(latest) => {
                tracing::error!("the end takes longer than it may: ending at once");
                Ok(ExitCode::FAILURE)
            }
        }
    }

    /// Starts the drain of all workers and returns the longest time that the whole shutdown may take.
    fn drain(&self) -> Duration {
        let DrainConfig { rate, timeout } = self.config.drain;
        let counts = self.sessions.local.directory.count_by_worker(self.worker_senders.len());
        for (worker_sender, per_second) in self.worker_senders.iter().zip(drain_rates(u64::from(rate), &counts)) {
            worker_sender.send(WorkerMessage::Drain { per_second });
        }
        let batches = Duration::from_secs(counts.iter().sum::<usize>().div_ceil(rate.max(1) as usize) as u64);
        // `Instant` overflows with more; this is 136 years.
        (batches + SHUTDOWN_GRACE).saturating_add(timeout).min(Duration::from_secs(u32::MAX.into()))
    }

    /// Waits for the workers, the last outcomes and the last spans.
    async fn end(
        &self,
        ended: impl Future<Output = anyhow::Result<usize>>,
        latest: Instant,
    ) -> anyhow::Result<ExitCode> {
        let unacknowledged = ended.await?;
        if unacknowledged > 0 {
            tracing::error!(unacknowledged, "the queue did not acknowledge everything in time");
        }
        // A reader of stdout that does not read must not keep the process from ending.
        let is_finished = unacknowledged == 0 && timeout_at(latest - FLUSH_GRACE, self.queues.finish()).await.is_ok();
        self.tracing.finish().await;
        if !is_finished {
            if unacknowledged == 0 {
                tracing::error!("the last outcomes were not taken in time");
            }
            return Ok(ExitCode::FAILURE);
        }
        tracing::info!("all sessions are closed, everything is acknowledged");
        Ok(if self.queues.is_broken() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// Drain rate of each worker, in proportion to its sessions, so that all workers finish together.
fn drain_rates(rate: u64, counts: &[usize]) -> impl Iterator<Item = u64> {
    let sessions = counts.iter().sum::<usize>() as u64;
    counts.iter().map(move |&count| match sessions {
        0 => rate.div_ceil(counts.len() as u64),
        _ => (rate * count as u64).div_ceil(sessions),
    })
}

/// Waits for the worker threads; returns the number of records that stayed unacknowledged.
async fn join(threads: Vec<thread::JoinHandle<anyhow::Result<Drained>>>) -> anyhow::Result<usize> {
    let (sender, joined) = oneshot::channel();
    thread::Builder::new().name("join".to_owned()).spawn(move || {
        let mut unacknowledged = 0;
        let mut outcome = Ok(0);
        for thread in threads {
            match thread.join() {
                Ok(Ok(drained)) => unacknowledged += drained.unacknowledged,
                Ok(Err(error)) => outcome = Err(error),
                Err(_) => outcome = Err(anyhow::anyhow!("a worker panicked")),
            }
        }
        // The receiver is gone after a second signal.
        let _ended = sender.send(outcome.map(|_: usize| unacknowledged));
    })?;
    joined.await.context("the workers' end was not reported")?
}

/// Id of this process, unique among all replicas and their restarts: host name and 40 random bits.
fn replica_id() -> anyhow::Result<String> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let random = getrandom::u64()? & 0xff_ffff_ffff;
    Ok(format!("{}-{random:010x}", if host.is_empty() { "bridge" } else { host }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_drain_in_the_same_time_however_sessions_are_distributed() {
        let rates = |rate, counts: &[usize]| drain_rates(rate, counts).collect::<Vec<_>>();
        assert_eq!(rates(1_000, &[0, 0, 0]), [334; 3]);
        assert_eq!(rates(1_000, &[5_000]), [1_000]);
        assert_eq!(rates(1_000, &[3_000, 1_000, 0]), [750, 250, 0]);
        assert_eq!(rates(2, &[1, 1, 1]), [1; 3]);
        assert_eq!(rates(10_000_000, &[10_000_000, 1]), [9_999_999 + 1, 1]);
    }
}
