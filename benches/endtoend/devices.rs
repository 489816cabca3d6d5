//! Simulated devices that load a server.

use std::io::{BufRead, BufReader, Lines, Read};
use std::process::{ChildStderr, ChildStdout, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::cores::Cores;
use crate::load::{Load, Transport};
use crate::measurement::{Figures, Latency, own_program};
use crate::processor;
use crate::server::{Replica, Server};
use crate::support::Process;

/// Time from the start of the devices to the begin of steady load, at most.
const SETTLING_SECONDS: u64 = 40;

/// Devices that connect to a replica in a second, over TCP alone; with a handshake more take longer than they may.
const CONNECT_RATE: &str = "4000";

/// Messages of a device that may be unacknowledged where it sends by the clock: so many that it never waits for one.
const OPEN_WINDOW: u16 = 30_000;

/// What devices go by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// Each sends as soon as fewer than the load's window are unacknowledged.
    Window,
    /// All send so many messages a second together, whether earlier ones are acknowledged or not: an open loop. Over CoAP
    /// each has one unacknowledged message at most.
    PerSecond(f64),
}

/// The devices of a server: a process for each replica.
pub(crate) struct Devices {
    groups: Vec<Group>,
}

struct Group {
    process: Process,
    stdout: ChildStdout,
    progress: Lines<BufReader<ChildStderr>>,
}

/// A moment of steady load.
#[derive(Debug, Clone, Copy)]
struct Moment {
    elapsed_ms: u64,
    acknowledged: u64,
    server_us: u64,
    queue_us: u64,
    devices_us: u64,
}

impl Devices {
    /// Starts them.
    pub(crate) fn start(server: &Server, load: Load, pace: Pace, seconds: u64, cores: Cores) -> Self {
        let start = |replica| Group::start(replica, load, pace, seconds, cores);
        Self { groups: server.replicas.iter().map(start).collect() }
    }

    /// Measures between two moments of steady load that are so many seconds apart, and ends them.
    pub(crate) fn measure(mut self, server: &Server, seconds: u64) -> Result<Figures, String> {
        let from = self.next_moment(server)?;
        let until = loop {
            let moment = self.next_moment(server)?;
            if moment.elapsed_ms >= from.elapsed_ms + seconds * 1_000 {
                break moment;
            }
        };
        self.groups.iter().for_each(|group| group.process.signal(libc::SIGINT));
        let summaries = self.groups.into_iter().map(Group::end).collect::<Result<Vec<_>, _>>()?;
        figures(from, until, &summaries)
    }

    /// Reads the progress of all up to a line of steady load, and the processor times of that moment.
    fn next_moment(&mut self, server: &Server) -> Result<Moment, String> {
        let (mut elapsed_ms, mut acknowledged) = (0, 0);
        for group in &mut self.groups {
            let told = group.next_steady()?;
            elapsed_ms = told["elapsed_ms"].as_u64().unwrap_or_default();
            acknowledged += told["acknowledged"].as_u64().unwrap_or_default();
        }
        Ok(Moment {
            elapsed_ms,
            acknowledged,
            server_us: server.time_us(),
            queue_us: server.queue.map_or(0, processor::time_us),
            devices_us: self.groups.iter().map(|group| processor::time_us(group.process.id())).sum(),
        })
    }
}

impl Group {
    fn start(replica: &Replica, load: Load, pace: Pace, seconds: u64, cores: Cores) -> Self {
        let mut command = cores.devices(own_program());
        command.arg("simulate").args(["--qos", "1", "--output", "json", "--warmup", "1s"]);
        let (rate, window) = match pace {
            Pace::Window => (0.0, load.window),
            Pace::PerSecond(rate) => (rate / f64::from(load.devices), OPEN_WINDOW),
        };
        command.args(["--rate", &rate.to_string(), "--window", &window.to_string()]);
        command.args(["--address", &replica.address.to_string(), "--transport", load.transport.name()]);
        if load.transport == Transport::Mqtt {
            command.args(["--connect-rate", CONNECT_RATE]);
        }
        command.args(["--duration", &format!("{}s", SETTLING_SECONDS + seconds)]);
        let devices = replica.devices.to_string();
        match &replica.registry {
            Some(registry) => command.arg("--registry").arg(registry.path()).args(["--devices", &devices]),
            None => command.args(["--anonymous", "--generate", &devices]),
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::spawn(&mut command, None);
        // Both were piped a line above.
        let (stdout, stderr) = (process.take_stdout().expect("piped"), process.take_stderr().expect("piped"));
        Self { process, stdout, progress: BufReader::new(stderr).lines() }
    }

    fn next_steady(&mut self) -> Result<Value, String> {
        for line in self.progress.by_ref() {
            let line = line.map_err(|error| error.to_string())?;
            let Ok(told) = serde_json::from_str::<Value>(&line) else { return Err(line) };
            if told["measuring"] == true {
                return Ok(told);
            }
        }
        Err("the devices ended before the load was steady".to_owned())
    }

    fn end(mut self) -> Result<Value, String> {
        let mut summary = String::new();
        self.stdout.read_to_string(&mut summary).map_err(|error| error.to_string())?;
        let code = self.process.exit_code(Duration::from_secs(30));
        if code != 0 {
            return Err(format!("the devices ended with {code}"));
        }
        serde_json::from_str(&summary).map_err(|error| error.to_string())
    }
}

fn figures(from: Moment, until: Moment, summaries: &[Value]) -> Result<Figures, String> {
    let acknowledged = until.acknowledged.saturating_sub(from.acknowledged);
    if acknowledged == 0 {
        return Err("nothing was acknowledged".to_owned());
    }
    let reconnects: u64 = summaries.iter().filter_map(|summary| summary["reconnects"].as_u64()).sum();
    if reconnects > 0 {
        return Err(format!("{reconnects} connections were lost under load"));
    }
    let per_message = |from: u64, until: u64| until.saturating_sub(from) as f64 / acknowledged as f64;
    // Percentiles of several processes have no sum: those of the slowest count.
    let latency =
        |name: &str| summaries.iter().filter_map(|summary| summary["latency_ms"][name].as_f64()).fold(0.0, f64::max);
    Ok(Figures {
        server_us: per_message(from.server_us, until.server_us),
        queue_us: per_message(from.queue_us, until.queue_us),
        devices_us: per_message(from.devices_us, until.devices_us),
        rate: acknowledged as f64 * 1e3 / (until.elapsed_ms - from.elapsed_ms) as f64,
        latency: Latency {
            p50: latency("p50"),
            p95: latency("p95"),
            p99: latency("p99"),
            p999: latency("p999"),
            max: latency("max"),
        },
        half: None,
    })
}
