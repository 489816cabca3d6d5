//! One worker's thread.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::coap::{PortConfig, PortPlan};
use super::listeners::ListenerPlan;
use super::meter::WorkerMeter;
use super::queues::{Queues, seed};
use super::registry::RegistryPort;
use super::settings;
use crate::config::{Config, UplinkQueue};
use crate::protocol::command::MessageIds;
use crate::protocol::downlink::DownlinkEvent;
use crate::protocol::envelope::{Encoder, Mode};
use crate::protocol::limit::{Limits, Load};
use crate::protocol::trace::Tracer;
use crate::protocol::uplink::Inbox;
use crate::replica::{Directory, Mail, Mailbox, Notice};
use crate::telemetry::health::Health;
use crate::telemetry::metric::WorkerMetrics;
use crate::transport::{
    Channels, Clock, CoreSettings, Drained, Environment, Gate, Listening, Proxies, ReplicaHandle, Settings, Worker,
    WorkerCore, serve,
};

/// What a worker is made of.
pub struct Plan {
    /// Which one it is.
    pub index: usize,
    /// Its listeners.
    pub listeners: Vec<ListenerPlan>,
    /// Its ports of CoAP.
    pub ports: Vec<PortPlan>,
    /// Its letters.
    pub letters: mpsc::UnboundedReceiver<Mail>,
    /// Where its queue of commands puts them.
    pub events: mpsc::Sender<DownlinkEvent>,
    /// Where it takes them from.
    pub commands: mpsc::Receiver<DownlinkEvent>,
    /// How to reach the queues.
    pub queues: Queues,
    /// The registry.
    pub registry: Arc<RegistryPort>,
    /// Shared by all workers.
    pub directory: Arc<Directory>,
    /// Shared by all workers.
    pub gate: Arc<Gate>,
    /// Shared by all workers.
    pub mailboxes: Arc<[Mailbox]>,
    /// Where it tells what other replicas must know.
    pub notices: Option<mpsc::UnboundedSender<Notice>>,
    /// Its numbers.
    pub metrics: Arc<WorkerMetrics>,
    /// The process' health.
    pub health: Arc<Health>,
    /// The replica.
    pub replica_id: String,
    /// The process' clock: what the workers note in the directory must be of one.
    pub clock: Clock,
    /// Its part in tracing.
    pub tracer: Tracer,
    /// Gives ids to commands that have none.
    pub message_ids: MessageIds,
}

/// Starts the thread of a worker.
pub fn spawn(plan: Plan, config: &Config) -> anyhow::Result<thread::JoinHandle<anyhow::Result<Drained>>> {
    let limits = limits(config);
    let heartbeats = config.uplink.queue != UplinkQueue::Stdio && plan.index == 0;
    let settings = Settings {
        connect_timeout: config.mqtt.connect_timeout,
        connects_per_second: u64::from(config.limits.connect_rate).div_ceil(config.runtime.workers as u64),
        proxies: proxies(config),
        children_max: config.limits.children_per_gateway,
    };
    let heartbeat_us = heartbeats.then(|| us(config.presence.heartbeat));
    let drain_timeout_us = us(config.drain.timeout);
    let mode = settings::mode(config);
    let port_config = PortConfig::new(config);
    let name = format!("worker-{}", plan.index);
    let (index, health) = (plan.index, plan.health.clone());
    Ok(thread::Builder::new().name(name).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let core_settings = CoreSettings { heartbeat_us, drain_timeout_us, seed: seed()? };
        let running = run(plan, settings, core_settings, limits, mode, port_config);
        let drained = LocalSet::new().block_on(&runtime, running);
        health.ended(index);
        // The look-up of a name that does not come to its end must not keep the process from ending.
        runtime.shutdown_background();
        drained
    })?)
}

fn proxies(config: &Config) -> Proxies {
    let networks = config.mqtt.proxy_protocol_from.clone();
    Proxies::new(move |address| networks.iter().any(|network| network.contains(address)))
}

async fn run(
    plan: Plan,
    settings: Settings,
    core_settings: CoreSettings,
    limits: Limits,
    mode: Mode,
    port_config: PortConfig,
) -> anyhow::Result<Drained> {
    let inbox = Arc::new(Inbox::new());
    let uplink = plan.queues.uplink(inbox.clone())?;
    let downlink = plan.queues.downlink(plan.events)?;
    let clock = plan.clock;
    let environment = Environment {
        limits,
        load: Load::default(),
        encoder: Encoder::new(mode, plan.queues.addressing(), plan.replica_id, seed()?).with_tracer(plan.tracer),
        uplink,
        downlink,
        registry: plan.registry,
        meter: Box::new(WorkerMeter::new(plan.index, plan.metrics, plan.health)),
        latest: clock.now(),
        message_ids: plan.message_ids,
    };
    let listen = |ListenerPlan { listener, door }: ListenerPlan| -> anyhow::Result<Listening> {
        Ok(Listening { listener: TcpListener::from_std(listener)?, door })
    };
    let listeners = plan.listeners.into_iter().map(listen).collect::<anyhow::Result<_>>()?;
    let open = |port: PortPlan| port.open(&port_config, &plan.gate, clock.now());
    let ports: Vec<_> = plan.ports.into_iter().map(open).collect::<anyhow::Result<_>>()?;
    let (datagrams, ports) = ports.into_iter().unzip();
    let replica = ReplicaHandle {
        index: plan.index,
        directory: plan.directory,
        gate: plan.gate,
        mailboxes: plan.mailboxes,
        notices: plan.notices,
    };
    let core = WorkerCore::new(&core_settings, environment, replica, ports);
    let worker = Worker::new(settings, core, clock, datagrams);
    let channels = Channels { inbox, commands: plan.commands, letters: plan.letters };
    Ok(serve(worker, listeners, channels).await)
}

fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn limits(config: &Config) -> Limits {
    let workers = config.runtime.workers;
    let copies = match config.uplink.queue {
        UplinkQueue::Kafka => settings::kafka_buffer_bytes(config),
        UplinkQueue::Stdio | UplinkQueue::Nats => 0,
    };
    Limits {
        packet_bytes: config.limits.packet_bytes,
        inflight_per_connection: config.limits.inflight_per_connection,
        inflight_bytes: config.limits.inflight_bytes.div_ceil(workers) - copies,
        ack_timeout_us: us(config.limits.ack_timeout),
        keep_alive_max_us: us(config.mqtt.keep_alive_max),
        command_timeout_ms: us(config.commands.timeout) / 1000,
        command_timeout_max_ms: us(config.commands.timeout_max) / 1000,
        commands_per_device: config.commands.pending_per_device,
        commands: config.commands.pending.div_ceil(workers),
    }
}
