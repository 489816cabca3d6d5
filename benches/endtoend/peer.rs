//! Servers that are measured.

use std::env;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;

use crate::load::{Load, Transport};
use crate::measurement::Cores;
use crate::scraper::Scraper;
use crate::support::{
    Certificate, Collector, Folder, Kafka, Nats, Process, Registration, Registry, Settings, http, port, wait,
};

/// How long a server may take to be ready.
const START: Duration = Duration::from_secs(30);

/// A server that devices connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Peer {
    /// Mosquitto, which acknowledges without storing.
    Mosquitto,
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
            Peer::Mosquitto | Peer::NatsMqtt | Peer::Jetstream | Peer::Kafka | Peer::Stdio => None,
        }
    }

    /// Whether it is the bridge, with whatever queue.
    pub(crate) fn is_bridge(self) -> bool {
        !matches!(self, Peer::Mosquitto | Peer::NatsMqtt)
    }

    fn watcher(self) -> Watcher {
        match self {
            Peer::JetstreamScraped | Peer::StdioScraped => Watcher::Prometheus,
            Peer::JetstreamTraced | Peer::StdioTraced => Watcher::Collector,
            Peer::Mosquitto | Peer::NatsMqtt | Peer::Jetstream | Peer::Kafka | Peer::Stdio => Watcher::Nobody,
        }
    }

    /// Name and version of the server; `None` when something that it needs is not installed.
    pub(crate) fn version(self) -> Option<String> {
        let bridge = format!("jetlinks-bridge {}", env!("CARGO_PKG_VERSION"));
        match self.unwatched().unwrap_or(self) {
            // Its usage begins with its version.
            Peer::Mosquitto => first_line(Command::new(mosquitto()?).arg("-h")),
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

    /// Starts a fresh server for this load and waits until it takes devices; a bridge is one of the build `program`.
    pub(crate) fn start(self, program: &Path, load: Load, queues: &mut Queues, cores: Cores) -> Result<Server, String> {
        match self {
            Peer::Mosquitto => return start_mosquitto(),
            Peer::NatsMqtt => return Ok(start_nats_mqtt()),
            _ => {}
        }
        let devices: Vec<_> =
            (1..=load.devices).map(|number| Registration::encrypting(&format!("device{number}"))).collect();
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
        let queue = nats.as_ref().map(|nats| nats.process().id());
        let queue = queue.or_else(|| (self == Peer::Kafka).then(|| queues.kafka().process().id()));
        let watcher = self.watcher();
        let collector = (watcher == Watcher::Collector).then(Collector::start);
        let settings = match &collector {
            Some(collector) => settings.text("tracing.endpoint", &collector.url()),
            None => settings,
        };
        let mut server = start_bridge(cores.command(program, true), settings, load.transport, registry, nats, queue)?;
        server.scraper = server.admin.filter(|_| watcher == Watcher::Prometheus).map(Scraper::start);
        Ok(server)
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

/// A running server; ended when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    /// Where devices connect.
    pub(crate) address: SocketAddr,
    /// Registry file with the devices that it takes; `None` when it asks for no credentials.
    pub(crate) registry: Option<Registry>,
    /// Process id of the queue behind it.
    pub(crate) queue: Option<u32>,
    admin: Option<SocketAddr>,
    scraper: Option<Scraper>,
    /// `None` where nats-server is what devices connect to.
    process: Option<Process>,
    nats: Option<Nats>,
    _folder: Folder,
}

impl Server {
    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        let process = self.process.as_ref().or_else(|| self.nats.as_ref().map(Nats::process));
        process.map_or(0, Process::id)
    }
}

fn start_mosquitto() -> Result<Server, String> {
    let program = mosquitto().ok_or("mosquitto is missing")?;
    let folder = Folder::new("mosquitto");
    let address = SocketAddr::from(([127, 0, 0, 1], port::free_port()));
    // No limit that would slow it down, and nothing that it would do beside.
    let text = format!(
        "listener {} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\n\
         max_connections -1\npersistence false\nlog_type error\n",
        address.port()
    );
    let file = folder.write("mosquitto.conf", &text);
    let log = folder.path().join("mosquitto.log");
    let mut process = Process::start(Command::new(program).arg("-c").arg(file), &log);
    let is_open = wait::within(START, || match process.ended() {
        Some(_) => Some(false),
        None => port::is_open(address).then_some(true),
    });
    if is_open != Some(true) {
        return Err("Mosquitto does not start".to_owned());
    }
    Ok(Server {
        address,
        admin: None,
        registry: None,
        queue: None,
        scraper: None,
        process: Some(process),
        nats: None,
        _folder: folder,
    })
}

/// Its sessions and messages are on files, as the stream of the bridge is.
fn start_nats_mqtt() -> Server {
    let address = SocketAddr::from(([127, 0, 0, 1], port::free_port()));
    let nats = Nats::configured(&format!("server_name: bench\nmqtt {{ listen: \"{address}\" }}\n"));
    Server {
        address,
        admin: None,
        registry: None,
        queue: None,
        scraper: None,
        process: None,
        nats: Some(nats),
        _folder: Folder::new("nats-mqtt"),
    }
}

fn start_bridge(
    mut command: Command,
    settings: Settings,
    transport: Transport,
    registry: Registry,
    nats: Option<Nats>,
    queue: Option<u32>,
) -> Result<Server, String> {
    let folder = Folder::new("bridge");
    let address = SocketAddr::from(([127, 0, 0, 1], port::free_port()));
    let admin = SocketAddr::from(([127, 0, 0, 1], port::free_port()));
    let certificate = Certificate::elliptic();
    let settings = settings
        .coap(&certificate)
        .text("mqtt.tls.certificate", &certificate.path())
        .text("mqtt.tls.private_key", &certificate.key_path())
        .text(&format!("{}.listen", transport.section()), &address.to_string())
        .text("admin.listen", &admin.to_string())
        .text("log.level", "warn");
    let file = folder.write("bridge.toml", &settings.render());
    let log = folder.path().join("bridge.log");
    let errors = std::fs::File::create(&log).map_err(|error| error.to_string())?;
    command.arg("run").arg("--config").arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
    let mut process = Process::spawn(&mut command, Some(&log));
    let is_ready = wait::within(START, || match process.ended() {
        Some(_) => Some(false),
        None => http::get(admin, "/readyz").is_ok_and(|answer| answer.status == 200).then_some(true),
    });
    if is_ready != Some(true) {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        return Err(format!("the bridge is not ready: {}", text.lines().last().unwrap_or("it says nothing")));
    }
    let (registry, admin) = (Some(registry), Some(admin));
    Ok(Server { address, admin, registry, queue, scraper: None, process: Some(process), nats, _folder: folder })
}

/// Debian keeps it outside the path of ordinary users.
fn mosquitto() -> Option<PathBuf> {
    let path = env::var("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join("mosquitto")).find(|program| program.is_file())
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
