//! The queues that the configuration names, as each worker gets them.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc;

use super::counts::QueueStats;
use super::settings;
use crate::config::{CommandQueue, Config, UplinkQueue};
use crate::protocol::downlink::{Downlink, DownlinkEvent, Recipient, Ticket};
use crate::protocol::envelope::{Encoder, Mode};
use crate::protocol::id::DeviceId;
use crate::protocol::trace::Tracer;
use crate::protocol::uplink::{Addressing, Inbox, Uplink};
use crate::queue::kafka::{KafkaCommands, KafkaSettings, KafkaUplink};
use crate::queue::nats::{ConnectionTallies, NatsDownlink, NatsSettings, NatsUplink};
use crate::queue::stdio::{StdioDownlink, StdioInput, StdioUplink, StdioWriter, Undelivered};
use crate::queue::{Calls, ImmediateInterest, WorkerDownlink};
use crate::replica::Directory;

/// How to reach the queues; cheap to clone.
#[derive(Clone)]
pub struct Queues {
    uplink: UplinkQueue,
    commands: CommandQueue,
    /// How NATS is reached.
    pub nats: NatsSettings,
    kafka: Option<KafkaSettings>,
    kafka_commands: Option<KafkaCommands>,
    replica_id: String,
    mode: Mode,
    stdout: Option<StdioWriter>,
    /// The counters of the queues.
    pub stats: QueueStats,
    is_broken: Arc<AtomicBool>,
    /// Commands that the process itself gives.
    pub calls: Calls,
}

impl Queues {
    /// Looks at the settings; connects to nothing yet. `tallies` count the connections to NATS, `output` is what counts as
    /// stdout.
    pub fn new(
        config: &Config,
        replica_id: &str,
        tallies: ConnectionTallies,
        output: impl Write + Send + 'static,
    ) -> anyhow::Result<Self> {
        check_kafka(config)?;
        check_nats(config)?;
        let stats = QueueStats { nats_connections: tallies.clone(), ..QueueStats::default() };
        let kafka = settings::kafka(config, replica_id);
        let kafka_commands = match config.commands.queue {
            CommandQueue::Kafka => {
                let settings = settings::kafka_commands(config, replica_id, &tallies).context("kafka.brokers")?;
                Some(KafkaCommands::new(settings, stats.kafka_commands.clone())?)
            }
            CommandQueue::None | CommandQueue::Stdio | CommandQueue::Nats => None,
        };
        let prints = config.uplink.queue == UplinkQueue::Stdio || config.commands.queue == CommandQueue::Stdio;
        Ok(Self {
            uplink: config.uplink.queue,
            commands: config.commands.queue,
            nats: NatsSettings { tallies, ..settings::nats(config, replica_id) },
            kafka,
            kafka_commands,
            replica_id: replica_id.to_owned(),
            mode: config.envelope.mode,
            stdout: prints
                .then(|| StdioWriter::start_on(output, stats.stdio.clone()))
                .transpose()
                .context("the thread for stdout")?,
            stats,
            is_broken: Arc::default(),
            calls: Calls::default(),
        })
    }

    /// How records are named.
    pub fn addressing(&self) -> Addressing {
        match self.uplink {
            UplinkQueue::Nats => Addressing::Subject(self.nats.prefix.clone()),
            UplinkQueue::Kafka | UplinkQueue::Stdio => Addressing::Key,
        }
    }

    /// The way out of a worker; on its thread.
    pub fn uplink(&self, inbox: Arc<Inbox>) -> anyhow::Result<Box<dyn Uplink>> {
        Ok(match self.uplink {
            UplinkQueue::Stdio => Box::new(StdioUplink::new(self.stdout()?.clone(), inbox)),
            UplinkQueue::Nats => Box::new(NatsUplink::start(&self.nats, inbox, self.stats.nats_uplink.clone())?),
            UplinkQueue::Kafka => {
                let settings = self.kafka.as_ref().context("kafka.brokers")?;
                Box::new(KafkaUplink::start(settings, inbox, self.stats.kafka.clone())?)
            }
        })
    }

    /// The way in of a worker; on its thread.
    pub fn downlink(&self, events: mpsc::Sender<DownlinkEvent>) -> anyhow::Result<Box<dyn Downlink>> {
        let kafka = self.kafka_commands.as_ref().map(KafkaCommands::answers);
        let queue: Box<dyn Downlink> = match self.commands {
            CommandQueue::Stdio => {
                let is_uplink = self.uplink == UplinkQueue::Stdio;
                Box::new(StdioDownlink::new(self.stdout()?.clone(), events, is_uplink))
            }
            // Without NATS no replica hands over what it reads from Kafka, and no interest is declared.
            CommandQueue::Kafka if self.nats.servers.is_empty() => Box::new(ImmediateInterest::start(events)),
            CommandQueue::Nats | CommandQueue::Kafka => {
                Box::new(NatsDownlink::start(&self.nats, events, self.stats.nats_commands.clone())?)
            }
            CommandQueue::None => Box::new(ImmediateInterest::start(events)),
        };
        Ok(Box::new(WorkerDownlink::new(self.calls.clone(), kafka, queue)))
    }

    /// Starts to read the commands that come once for the whole replica, from Kafka or stdin; `workers` take them.
    /// `input` counts as stdin; `tracer` is for the outcomes that no worker makes; `ages` takes the age of each command from Kafka that is read here.
    pub fn read_commands(
        &self,
        input: impl Read + Send + 'static,
        directory: Arc<Directory>,
        workers: Vec<mpsc::Sender<DownlinkEvent>>,
        tracer: Tracer,
        ages: impl Fn(Duration) + Send + 'static,
    ) -> anyhow::Result<()> {
        if let Some(commands) = &self.kafka_commands {
            let encoder =
                Encoder::new(self.mode, Addressing::Key, self.replica_id.clone(), seed()?).with_tracer(tracer);
            let route = move |device: &DeviceId| directory.find(device.as_str()).map(|entry| entry.worker);
            return Ok(commands.start(encoder, route, workers, ages)?);
        }
        if self.commands != CommandQueue::Stdio {
            return Ok(());
        }
        // A device that is connected nowhere gets its CLIENT_OFFLINE from the first worker, like any other outcome.
        let first = workers.first().cloned().context("no worker")?;
        let route = move |device: &DeviceId| {
            let holder = directory.find(device.as_str()).map_or(0, |entry| entry.worker);
            workers.get(holder).cloned()
        };
        let nobody = DeviceId::new("-").context("the id of nobody")?;
        let undelivered = move |line: Undelivered| {
            let command = match line {
                Undelivered::Offline(command) => Ok(command),
                Undelivered::Invalid(error) => Err(error),
            };
            let to = Recipient::Device(nobody.clone());
            // A worker that has ended takes no commands, and the process ends with it.
            let _ended = first.blocking_send(DownlinkEvent::Command { to, ticket: Some(Ticket(0)), command });
        };
        StdioInput::start_on(input, self.stats.stdio.clone(), route, undelivered).context("the thread for stdin")
    }

    /// Waits until the queue is gone for good, as stdout is once its reader has closed it; says how.
    pub async fn broken(&self) -> &'static str {
        match &self.stdout {
            Some(stdout) => stdout.gone().await,
            None => std::future::pending().await,
        }
        self.is_broken.store(true, Ordering::Relaxed);
        "stdout is closed"
    }

    /// Whether the queue is gone for good.
    pub fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }

    /// Takes no more commands from Kafka, at the beginning of the end: another replica is to have them.
    pub fn stop_commands(&self) {
        if let Some(commands) = &self.kafka_commands {
            commands.stop();
        }
    }

    /// Lets what was taken leave, at the end of the process.
    pub async fn finish(&self) {
        if let Some(commands) = &self.kafka_commands {
            commands.finish().await;
        }
        if let Some(stdout) = &self.stdout {
            stdout.finish().await;
        }
    }

    fn stdout(&self) -> anyhow::Result<&StdioWriter> {
        self.stdout.as_ref().context("stdout has no writer")
    }
}

/// Looks at what Kafka is to be used with, at the files that it needs and at what this build can do, without a connection.
pub fn check_kafka(config: &Config) -> anyhow::Result<()> {
    let checked = match settings::kafka_commands(config, "", &ConnectionTallies::default()) {
        Some(commands) if config.commands.queue == CommandQueue::Kafka => commands.check(),
        Some(commands) => commands.kafka.check(),
        None => Ok(()),
    };
    checked.context("kafka.properties")
}

/// As [`check_kafka`], for NATS.
pub fn check_nats(config: &Config) -> anyhow::Result<()> {
    if config.has_nats_servers() {
        settings::nats(config, "").check().context("nats")?;
    }
    Ok(())
}

/// Randomness for the ids of one encoder.
pub fn seed() -> anyhow::Result<u128> {
    Ok(u128::from(getrandom::u64()?) << 64 | u128::from(getrandom::u64()?))
}
