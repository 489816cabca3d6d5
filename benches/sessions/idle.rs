//! CONNECTs, and connections that say nothing.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::broker::Broker;
use crate::processor;
use crate::support::bridge::command;
use crate::support::{Bridge, Nats, Process, Registry, Settings, eventually};

/// For all connections to be there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(120);

/// Pause between two looks at the server.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// A server that devices connect to.
enum Server {
    /// Mosquitto, which asks for no credentials and stores nothing.
    Mosquitto,
    /// The bridge with these settings, with a NATS server or alone.
    Bridge { settings: Settings, uses_nats: bool },
}

/// What one connection costs.
#[derive(Clone, Copy)]
struct Cost {
    /// Processor time of the server for its CONNECT.
    connect_us: f64,
    /// Memory of the server.
    bytes: f64,
    /// Memory of nats-server.
    nats_bytes: f64,
}

/// Measures Mosquitto, and the bridge with and without coordination, with and without commands, in turn.
pub(crate) fn measure(connections: u32, rounds: u32) {
    let (registry, _) = Registry::numbered(connections as usize);
    let nats = Nats::start();
    let plain = Settings::stdio(&registry).text("commands.queue", "none").toml("limits.connect_rate", "1000000");
    let coordinated = plain.clone().toml("nats.servers", &format!("[{:?}]", nats.url()));
    let commanded = coordinated.clone().text("commands.queue", "nats");
    let rows = [
        ("Mosquitto", Server::Mosquitto),
        ("bridge alone, no commands", Server::Bridge { settings: plain, uses_nats: false }),
        ("with claims, no commands", Server::Bridge { settings: coordinated, uses_nats: true }),
        ("with claims and commands from NATS", Server::Bridge { settings: commanded, uses_nats: true }),
    ];
    let mut costs: [Vec<Cost>; 4] = Default::default();
    for _ in 0..rounds {
        for ((name, server), costs) in rows.iter().zip(&mut costs) {
            match server.start() {
                Ok(mut running) => costs.push(running.connect(connections, &registry, &nats)),
                Err(error) => println!("{name} is left out: {error}"),
            }
        }
    }
    println!(
        "\n{connections} connections, one worker, no message but online; medians of {rounds} rounds, (least to greatest):"
    );
    println!("{:<36} {:>26} {:>12} {:>24}", "", "us a CONNECT", "bytes each", "nats-server bytes each");
    for ((name, server), costs) in rows.iter().zip(&costs) {
        let Some((connect_us, least, greatest)) = spread(costs.iter().map(|cost| cost.connect_us)) else { continue };
        let (bytes, ..) = spread(costs.iter().map(|cost| cost.bytes)).unwrap_or_default();
        // Later rounds use what nats-server has kept of the memory of earlier ones.
        let (.., nats_bytes) = spread(costs.iter().map(|cost| cost.nats_bytes)).unwrap_or_default();
        let uses_nats = matches!(server, Server::Bridge { uses_nats: true, .. });
        let nats_bytes = if uses_nats { format!("{nats_bytes:.0}") } else { "-".to_owned() };
        let connect = format!("{connect_us:.1} ({least:.1} to {greatest:.1})");
        println!("{name:<36} {connect:>26} {bytes:>12.0} {nats_bytes:>24}");
    }
}

/// The median, of two in the middle the greater one; the least, and the greatest.
fn spread(values: impl Iterator<Item = f64>) -> Option<(f64, f64, f64)> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    Some((*values.get(values.len() / 2)?, *values.first()?, *values.last()?))
}

impl Server {
    fn start(&self) -> Result<Running, String> {
        let (settings, uses_nats) = match self {
            Self::Mosquitto => return Ok(Running::Mosquitto(Broker::mosquitto(Command::new)?)),
            Self::Bridge { settings, uses_nats } => (settings, *uses_nats),
        };
        let bridge = Bridge::start(settings);
        if uses_nats {
            eventually("the replica coordinates", CONNECT_TIMEOUT, || {
                (bridge.readiness().1["coordination"] == "ok").then_some(())
            });
        }
        Ok(Running::Bridge(bridge))
    }
}

/// A server that has been started.
enum Running {
    Mosquitto(Broker),
    Bridge(Bridge),
}

impl Running {
    /// Connects simulated devices, and divides what it has used meanwhile by their number.
    fn connect(&mut self, connections: u32, registry: &Registry, nats: &Nats) -> Cost {
        let nats = nats.process();
        let (before, nats_before) = (self.used(), nats.resident_bytes());
        let mut call = command();
        call.args(["simulate", "--hold", "--quiet", "--duration", "300s", "--keep-alive", "600"])
            .args(["--address", &self.address().to_string(), "--devices", &connections.to_string()])
            .arg("--registry")
            .arg(registry.path())
            .stdin(Stdio::null())
            .stdout(File::open("/dev/null").map_or_else(|_| Stdio::null(), Stdio::from))
            .stderr(Stdio::null());
        let mut devices = Process::spawn(&mut call, None);
        eventually("all devices are connected, and every online is stored", CONNECT_TIMEOUT, || {
            thread::park_timeout(POLL_INTERVAL);
            // Only then are the metrics of the bridge read: it writes a page for each look at them.
            let are_open = open_descriptors(self.process()) >= connections as usize;
            (are_open && self.has_taken_all(connections)).then_some(())
        });
        let (after, nats_after) = (self.used(), nats.resident_bytes());
        devices.stop(Duration::from_secs(30));
        let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / f64::from(connections);
        Cost {
            connect_us: each(before.0, after.0),
            bytes: each(before.1, after.1),
            nats_bytes: each(nats_before, nats_after),
        }
    }

    /// Processor time, us, and memory, bytes.
    fn used(&mut self) -> (u64, u64) {
        let process = self.process();
        (processor::time_us(process.id()), process.resident_bytes())
    }

    fn process(&mut self) -> &Process {
        match self {
            Self::Mosquitto(broker) => &broker.process,
            Self::Bridge(bridge) => bridge.process(),
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Mosquitto(broker) => broker.address,
            Self::Bridge(bridge) => bridge.mqtt(),
        }
    }

    fn has_taken_all(&self, connections: u32) -> bool {
        match self {
            Self::Mosquitto(_) => true,
            Self::Bridge(bridge) => {
                bridge.metric("jetlinks_bridge_sessions", &[]) as u32 == connections
                    && bridge.metric("jetlinks_bridge_inflight_messages", &[]) == 0.0
            }
        }
    }
}

/// Connections and files that a process has open.
fn open_descriptors(server: &Process) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.id())).map_or(0, Iterator::count)
}
