//! CONNECTs, and connections that say nothing.

use std::fs::File;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use crate::processor;
use crate::support::bridge::command;
use crate::support::{Bridge, Nats, Process, Registry, Settings, eventually};

/// For all connections to be there.
const PATIENCE: Duration = Duration::from_secs(120);

/// Pause between two looks at the metrics. The bridge writes the page for each of them, and that counts as cost of the CONNECTs.
const LOOK: Duration = Duration::from_millis(500);

/// One way to run the bridge.
struct Row {
    name: &'static str,
    settings: Settings,
    uses_nats: bool,
}

/// Measures with and without coordination, with and without commands.
pub(crate) fn measure(connections: u32) {
    let (registry, _) = Registry::numbered(connections as usize);
    println!("\n{connections} connections, one worker, no message but online:");
    println!("{:<44} {:>14} {:>16} {:>22}", "", "us a CONNECT", "bytes each", "nats-server bytes each");
    let nats = Nats::start();
    let plain = Settings::stdio(&registry).text("commands.queue", "none");
    let coordinated = plain.clone().toml("nats.servers", &format!("[{:?}]", nats.url()));
    let commanded = coordinated.clone().text("commands.queue", "nats");
    for row in [
        Row { name: "alone, no commands", settings: plain, uses_nats: false },
        Row { name: "with claims, no commands", settings: coordinated, uses_nats: true },
        Row { name: "with claims and commands from NATS", settings: commanded, uses_nats: true },
    ] {
        row.measure(connections, &registry, &nats);
    }
}

impl Row {
    fn measure(self, connections: u32, registry: &Registry, nats: &Nats) {
        let settings = self.settings.toml("limits.connect_rate", "1000000");
        let mut bridge = Bridge::start(&settings);
        if self.uses_nats {
            eventually("the replica coordinates", PATIENCE, || {
                (bridge.readiness().1["coordination"] == "ok").then_some(())
            });
        }
        let id = bridge.process().id();
        let before = (processor::time_us(id), bridge.process().resident_bytes(), nats.process().resident_bytes());
        let mut call = command();
        call.args(["simulate", "--hold", "--quiet", "--duration", "300s", "--keep-alive", "600"])
            .args(["--address", &bridge.mqtt().to_string(), "--devices", &connections.to_string()])
            .arg("--registry")
            .arg(registry.path())
            .stdin(Stdio::null())
            .stdout(File::open("/dev/null").map_or_else(|_| Stdio::null(), Stdio::from))
            .stderr(Stdio::null());
        let mut devices = Process::spawn(&mut call, None);
        eventually("all devices are connected", PATIENCE, || {
            thread::park_timeout(LOOK);
            (bridge.metric("jetlinks_bridge_sessions", &[]) as u32 == connections).then_some(())
        });
        eventually("every online is stored", PATIENCE, || {
            thread::park_timeout(LOOK);
            (bridge.metric("jetlinks_bridge_inflight_messages", &[]) == 0.0).then_some(())
        });
        let after = (processor::time_us(id), bridge.process().resident_bytes(), nats.process().resident_bytes());
        let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / f64::from(connections);
        let server = if self.uses_nats { format!("{:.0}", each(before.2, after.2)) } else { "-".to_owned() };
        let (cost_us, bytes) = (each(before.0, after.0), each(before.1, after.1));
        println!("{:<44} {cost_us:>14.1} {bytes:>16.0} {server:>22}", self.name);
        devices.stop(Duration::from_secs(30));
    }
}
