//! Running servers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::broker::{Broker, free_address, on_path};
use crate::cores::Cores;
use crate::load::Load;
use crate::processor;
use crate::scraper::Scraper;
use crate::support::{Certificate, Folder, Nats, Process, Registry, Settings, http, wait};

/// How long a server may take to be ready.
const START: Duration = Duration::from_secs(30);

/// A running server, or several replicas of one; ended when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    /// Where devices connect.
    pub(crate) replicas: Vec<Replica>,
    /// Process id of the queue behind it.
    pub(crate) queue: Option<u32>,
    /// The queue, or where nats-server is what devices connect to, that.
    nats: Option<Nats>,
    _company: Company,
}

/// What is there for as long as a bridge runs: its registry, and whoever reads its metrics.
#[derive(Debug, Default)]
pub(crate) struct Company {
    _registry: Option<Registry>,
    _scraper: Option<Scraper>,
}

impl Company {
    /// The company of a bridge.
    pub(crate) fn new(registry: Registry, scraper: Option<Scraper>) -> Self {
        Self { _registry: Some(registry), _scraper: scraper }
    }
}

/// One process that devices connect to.
#[derive(Debug)]
pub(crate) struct Replica {
    /// Where devices connect.
    pub(crate) address: SocketAddr,
    /// The devices that connect to it; `None` where it asks for no credentials.
    pub(crate) registry: Option<Registry>,
    /// How many devices connect to it.
    pub(crate) devices: u32,
    /// Where its metrics are.
    pub(crate) admin: Option<SocketAddr>,
    /// `None` where nats-server is what devices connect to.
    process: Option<Process>,
    _folder: Folder,
}

impl Server {
    /// Replicas with their queue and their company.
    pub(crate) fn new(replicas: Vec<Replica>, queue: Option<u32>, nats: Option<Nats>, company: Company) -> Self {
        Self { replicas, queue, nats, _company: company }
    }

    /// Microseconds that all its processes have computed.
    pub(crate) fn time_us(&self) -> u64 {
        let own = self.replicas.iter().filter_map(|replica| replica.process.as_ref()).map(Process::id);
        let is_nats = self.replicas.iter().any(|replica| replica.process.is_none());
        let nats = self.nats.iter().filter(|_| is_nats).map(|nats| nats.process().id());
        own.chain(nats).map(processor::time_us).sum()
    }
}

/// Mosquitto for those devices.
pub(crate) fn start_mosquitto(load: Load, cores: Cores) -> Result<Server, String> {
    Broker::mosquitto(|program| cores.server(program)).map(|broker| serve(broker, load))
}

/// RMQTT, without limits, too.
pub(crate) fn start_rmqtt(load: Load, cores: Cores) -> Result<Server, String> {
    let program = rmqtt().ok_or("rmqttd is missing")?;
    let (folder, address) = (Folder::new("rmqtt"), free_address());
    let listener = "listener.tcp.external";
    let text = format!(
        "node.id = 1\nrpc.server_addr = \"{}\"\nlog.to = \"off\"\nplugins.dir = \"{}\"\n{listener}.addr = \"{address}\"\n\
         {listener}.allow_anonymous = true\n{listener}.max_connections = 100000\n{listener}.max_handshaking_limit = 100000\n",
        free_address(),
        folder.path().display()
    );
    let file = folder.write("rmqtt.toml", &text);
    let mut command = cores.server(program);
    command.arg("--config").arg(file);
    Broker::start(command, folder, address).map(|broker| serve(broker, load))
}

fn serve(broker: Broker, load: Load) -> Server {
    let replica = Replica {
        address: broker.address,
        registry: None,
        devices: load.devices,
        admin: None,
        process: Some(broker.process),
        _folder: broker._folder,
    };
    Server::new(vec![replica], None, None, Company::default())
}

/// nats-server, whose sessions and messages are on files, as the stream of the bridge is.
pub(crate) fn start_nats_mqtt(load: Load) -> Server {
    let address = free_address();
    let nats = Nats::configured(&format!("server_name: bench\nmqtt {{ listen: \"{address}\" }}\n"));
    let replica = Replica {
        address,
        registry: None,
        devices: load.devices,
        admin: None,
        process: None,
        _folder: Folder::new("nats-mqtt"),
    };
    Server::new(vec![replica], None, Some(nats), Company::default())
}

/// A replica of the bridge, called by `command`, that is ready for those devices.
pub(crate) fn start_bridge(
    mut command: Command,
    settings: Settings,
    load: Load,
    devices: u32,
    registry: Registry,
) -> Result<Replica, String> {
    let folder = Folder::new("bridge");
    let (address, admin) = (free_address(), free_address());
    let certificate = Certificate::elliptic();
    let settings = settings
        .coap(&certificate)
        .text("mqtt.tls.certificate", &certificate.path())
        .text("mqtt.tls.private_key", &certificate.key_path())
        .text(&format!("{}.listen", load.transport.section()), &address.to_string())
        .text("admin.listen", &admin.to_string())
        .text("log.level", "warn")
        // Devices connect as fast as the benchmark lets them.
        .toml("limits.connect_rate", "1000000");
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
    Ok(Replica {
        address,
        registry: Some(registry),
        devices,
        admin: Some(admin),
        process: Some(process),
        _folder: folder,
    })
}

/// Only where somebody has installed it.
pub(crate) fn rmqtt() -> Option<PathBuf> {
    on_path("rmqttd", &[])
}
