//! Servers that are measured.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;

use crate::broker::mosquitto;
use crate::cores::Cores;
use crate::deployment::Deployment;
use crate::load::{Load, Transport};
use crate::scraper::Scraper;
use crate::server::{Company, Server, rmqtt, start_bridge, start_mosquitto, start_nats_mqtt, start_rmqtt};
use crate::support::{Collector, Kafka, Nats, Registry, Settings};

/// A server that devices connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Peer {
    /// Mosquitto, which acknowledges without storing.
    Mosquitto,
    /// RMQTT, which acknowledges without storing.
    Rmqtt,
    /// The MQTT listener of nats-server itself, which stores in a stream of its own, on files.
    NatsMqtt,
    /// The bridge into JetStream, on files.
    Jetstream,
    /// The bridge into Kafka.
    Kafka,
    /// The bridge, with stdout going nowhere.
    Stdio,
    /// As `Jetstream`, and its metrics are read every second.
    JetstreamScraped,
    /// As `Jetstream`, and messages have their places in traces, of which the usual share goes to a collector.
    JetstreamTraced,
    /// As `Stdio`, and its metrics are read every second.
    StdioScraped,
    /// As `Stdio`, and messages have their places in traces, of which the usual share goes to a collector.
    StdioTraced,
}

/// Observers of a bridge while it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watcher {
    Nobody,
    Prometheus,
    Collector,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Peer::Mosquitto => "Mosquitto",
            Peer::Rmqtt => "RMQTT",
            Peer::NatsMqtt => "nats-server, MQTT",
            Peer::Jetstream => "bridge, JetStream",
            Peer::Kafka => "bridge, Kafka",
            Peer::Stdio => "bridge, stdio",
            Peer::JetstreamScraped => "bridge, JetStream, scraped",
            Peer::JetstreamTraced => "bridge, JetStream, traced",
            Peer::StdioScraped => "bridge, stdio, scraped",
            Peer::StdioTraced => "bridge, stdio, traced",
        })
    }
}

impl Peer {
    /// Those of the comparison with Mosquitto, in the order of a round.
    pub(crate) const ALL: [Peer; 4] = [Peer::Mosquitto, Peer::Jetstream, Peer::Kafka, Peer::Stdio];

    /// The same without anybody who looks at it; `None` when nobody does.
    pub(crate) fn unwatched(self) -> Option<Self> {
        match self {
            Peer::JetstreamScraped | Peer::JetstreamTraced => Some(Peer::Jetstream),
            Peer::StdioScraped | Peer::StdioTraced => Some(Peer::Stdio),
            Peer::Mosquitto | Peer::Rmqtt | Peer::NatsMqtt | Peer::Jetstream | Peer::Kafka | Peer::Stdio => None,
        }
    }

    /// Whether it is the bridge, with whatever queue.
    pub(crate) fn is_bridge(self) -> bool {
        !matches!(self, Peer::Mosquitto | Peer::Rmqtt | Peer::NatsMqtt)
    }

    /// Its name in files.
    pub(crate) fn short_name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn watcher(self) -> Watcher {
        match self {
            Peer::JetstreamScraped | Peer::StdioScraped => Watcher::Prometheus,
            Peer::JetstreamTraced | Peer::StdioTraced => Watcher::Collector,
            Peer::Mosquitto | Peer::Rmqtt | Peer::NatsMqtt | Peer::Jetstream | Peer::Kafka | Peer::Stdio => {
                Watcher::Nobody
            }
        }
    }

    /// Name and version of the server; `None` when something that it needs is not installed.
    pub(crate) fn version(self) -> Option<String> {
        let bridge = format!("jetlinks-bridge {}", env!("CARGO_PKG_VERSION"));
        match self.unwatched().unwrap_or(self) {
            // Its usage begins with its version.
            Peer::Mosquitto => first_line(Command::new(mosquitto()?).arg("-h")),
            Peer::Rmqtt => first_line(Command::new(rmqtt()?).arg("--version")),
            Peer::NatsMqtt => nats_version(),
            Peer::Jetstream => Some(format!("{bridge}, {}", nats_version()?)),
            Peer::Kafka => {
                let names =
                    tool("kafka/libs")?.read_dir().ok()?.filter_map(|file| file.ok()?.file_name().into_string().ok());
                let library = names.into_iter().find(|name| name.starts_with("kafka_2.13-"))?;
                Some(format!("{bridge}, {}", library.trim_end_matches(".jar")))
            }
            _ => Some(bridge),
        }
    }

    /// How what it needs is installed.
    pub(crate) fn source(self) -> &'static str {
        match self {
            Peer::Rmqtt => "its program `rmqttd` is not on the path",
            _ => "`make tools` installs it, and `.ci/packages bench` Mosquitto",
        }
    }

    /// Starts a fresh server for this load and waits until it takes devices; a bridge is one of the build `program`.
    pub(crate) fn start(
        self,
        program: &Path,
        load: Load,
        deployment: Deployment,
        queues: &mut Queues,
        cores: Cores,
    ) -> Result<Server, String> {
        match self {
            Peer::Mosquitto => return start_mosquitto(load, cores),
            Peer::Rmqtt => return start_rmqtt(load, cores),
            Peer::NatsMqtt => return Ok(start_nats_mqtt(load)),
            _ => {}
        }
        let devices = deployment.registrations(load);
        let registry = Registry::new(&devices);
        let (settings, nats) = match self.unwatched().unwrap_or(self) {
            Peer::Jetstream => {
                // A fresh one each time, so that the disk does not fill up.
                let nats = Nats::start();
                (Settings::nats(&registry, &nats), Some(nats))
            }
            Peer::Kafka => (Settings::kafka(&registry, queues.kafka()), None),
            _ => (Settings::stdio(&registry).text("commands.queue", "none"), None),
        };
        let settings = settings.toml("runtime.workers", &deployment.workers.to_string());
        let queue = nats.as_ref().map(|nats| nats.process().id());
        let queue = queue.or_else(|| (self == Peer::Kafka).then(|| queues.kafka().process().id()));
        let watcher = self.watcher();
        let collector = (watcher == Watcher::Collector).then(Collector::start);
        let settings = match &collector {
            Some(collector) => settings.text("tracing.endpoint", &collector.url()),
            None => settings,
        };
        let mut devices = devices.as_slice();
        let mut replicas = Vec::new();
        for share in deployment.shares(load) {
            let (own, rest) = devices.split_at(share as usize);
            devices = rest;
            let command = cores.server(program);
            replicas.push(start_bridge(command, settings.clone(), load, share, Registry::new(own))?);
        }
        let watched = replicas.first().and_then(|replica| replica.admin);
        let scraper = watched.filter(|_| watcher == Watcher::Prometheus).map(Scraper::start);
        Ok(Server::new(replicas, queue, nats, Company::new(registry, scraper)))
    }

    /// Whether it can be put under that load.
    pub(crate) fn takes(self, load: Load) -> bool {
        self.is_bridge() || load.transport == Transport::Mqtt
    }
}

/// Queues that outlive a measurement.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    kafka: Option<Kafka>,
}

impl Queues {
    /// Drops what a round has filled.
    pub(crate) fn renew(&mut self) {
        self.kafka = None;
    }

    /// The broker of this round.
    fn kafka(&mut self) -> &Kafka {
        self.kafka.get_or_insert_with(|| Kafka::start_with_topics(&["jetlinks.device", "jetlinks.rejected"], 3))
    }
}

fn nats_version() -> Option<String> {
    first_line(Command::new(tool("venv/bin/nats-server")?).arg("--version"))
}

fn tool(path: &str) -> Option<PathBuf> {
    let tools =
        env::var("TOOLS").map_or_else(|_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".tools"), PathBuf::from);
    Some(tools.join(path)).filter(|path| path.exists())
}

/// First line of what a command says, if it starts.
pub(crate) fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    Some(String::from_utf8_lossy(&text).lines().next()?.to_owned())
}
