//! One worker's thread.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::coap::PortPlan;
use super::listeners::ListenerPlan;
use super::local_task::block_on_local;
use super::meter::WorkerMeter;
use super::notices::DeviceNotices;
use super::queues::{Queues, seed};
use super::registry::RegistryAdapter;
use super::settings;
use crate::config::{Config, UplinkQueue};
use crate::protocol::command::MessageIds;
use crate::protocol::downlink::DownlinkEvent;
use crate::protocol::envelope::Encoder;
use crate::protocol::limit::{Limits, Load};
use crate::protocol::trace::Tracer;
use crate::protocol::uplink::Inbox;
use crate::replica::WorkerMessage;
use crate::session::mqtt::SpareBuffers;
use crate::telemetry::follow::Followers;
use crate::telemetry::health::Health;
use crate::telemetry::metric::WorkerMetrics;
use crate::transport::{
    Channels, Clock, CoreSettings, Drained, Environment, HeartbeatSettings, Listening, Proxies, ReplicaHandle,
    Settings, Worker, WorkerCore, serve,
};

/// The parts of a worker.
pub struct Plan {
    /// The rest of the replica, and the number of the worker.
    pub replica: ReplicaHandle,
    /// Parts that all workers have.
    pub shared: Shared,
    /// Its listeners.
    pub listeners: Vec<ListenerPlan>,
    /// Its ports of CoAP.
    pub ports: Vec<PortPlan>,
    /// Messages for it.
    pub messages: mpsc::UnboundedReceiver<WorkerMessage>,
    /// The channel of its commands: the end of their queue, and its own.
    pub commands: (mpsc::Sender<DownlinkEvent>, mpsc::Receiver<DownlinkEvent>),
    /// The registry, whose answers are counted as its own.
    pub registry: Arc<RegistryAdapter>,
    /// Its numbers.
    pub metrics: Arc<WorkerMetrics>,
    /// Its part in tracing.
    pub tracer: Tracer,
    /// Ids of commands that have none.
    pub message_ids: MessageIds,
}

/// Parts that all workers have. Cheap to clone.
#[derive(Clone)]
pub struct Shared {
    /// Makers of the ends of the queues.
    pub queues: Queues,
    /// The process' health.
    pub health: Arc<Health>,
    /// Rejected messages that the log is to tell of.
    pub notices: Arc<DeviceNotices>,
    /// Operators who follow devices.
    pub followers: Arc<Followers>,
    /// The replica.
    pub replica_id: String,
    /// The process' clock: the times that workers note in the directory must be of one.
    pub clock: Clock,
}

/// Starts the thread of a worker.
pub fn spawn(plan: Plan, config: &Config) -> anyhow::Result<thread::JoinHandle<anyhow::Result<Drained>>> {
    let (index, health, config) = (plan.replica.index, plan.shared.health.clone(), config.clone());
    let name = format!("worker-{index}");
    Ok(thread::Builder::new().name(name).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let drained = block_on_local(&runtime, run(plan, config));
        health.ended(index);
        // The look-up of a name that does not come to its end must not keep the process from ending.
        runtime.shutdown_background();
        drained
    })?)
}

async fn run(plan: Plan, config: Config) -> anyhow::Result<Drained> {
    let Shared { queues, health, notices, followers, replica_id, clock } = plan.shared;
    let (events, commands) = plan.commands;
    let inbox = Arc::new(Inbox::new());
    let uplink = queues.uplink(inbox.clone())?;
    let downlink = queues.downlink(events)?;
    let connection_limit = plan.replica.connection_limit.clone();
    let (index, followers) = (plan.replica.index, followers.worker());
    let meter = WorkerMeter::new(index, plan.metrics, health, connection_limit, notices, followers, clock);
    let encoder = Encoder::new(config.envelope.mode, queues.addressing(), replica_id, seed()?);
    let environment = Environment {
        limits: limits(&config),
        load: Load::default(),
        encoder: encoder.with_tracer(plan.tracer),
        uplink,
        downlink,
        registry: plan.registry,
        meter: Box::new(meter),
        latest: clock.now(),
        message_ids: plan.message_ids,
        spare_buffers: SpareBuffers::default(),
    };
    let listen = |ListenerPlan { listener, protocol }: ListenerPlan| -> anyhow::Result<Listening> {
        Ok(Listening { listener: TcpListener::from_std(listener)?, protocol })
    };
    let listeners = plan.listeners.into_iter().map(listen).collect::<anyhow::Result<_>>()?;
    let open = |port: PortPlan| port.open(&config, &plan.replica.connection_limit, clock.now());
    let ports: Vec<_> = plan.ports.into_iter().map(open).collect::<anyhow::Result<_>>()?;
    let (datagrams, ports) = ports.into_iter().unzip();
    let core_settings = CoreSettings {
        heartbeat: HeartbeatSettings {
            period_us: us(config.presence.heartbeat),
            is_periodic: config.uplink.queue != UplinkQueue::Stdio && index == 0,
        },
        drain_timeout_us: us(config.drain.timeout),
        session_age_max_us: config.limits.session_age_max.map(us),
        seed: seed()?,
    };
    let core = WorkerCore::new(&core_settings, environment, plan.replica, ports);
    let networks = config.mqtt.proxy_protocol_from;
    let settings = Settings {
        connect_timeout: config.mqtt.connect_timeout,
        connects_per_second: u64::from(config.limits.connect_rate).div_ceil(config.runtime.workers as u64),
        proxies: Proxies::new(move |address| networks.iter().any(|network| network.contains(address))),
        children_max: config.limits.children_per_gateway,
    };
    let worker = Worker::new(settings, core, clock, datagrams);
    let channels = Channels { inbox, commands, messages: plan.messages };
    Ok(serve(worker, listeners, channels).await)
}

/// Whole microseconds.
pub(super) fn us(duration: Duration) -> u64 {
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
