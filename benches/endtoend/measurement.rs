//! One peer under one load.

use std::fmt;
use std::io::{BufRead, BufReader, Lines, Read};
use std::path::Path;
use std::process::{ChildStderr, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::load::Load;
use crate::peer::{Peer, Queues, Server};
use crate::processor;
use crate::support::Process;

/// Time from the start of the devices to the begin of steady load, at most.
const SETTLING_SECONDS: u64 = 40;

/// Quantities that are measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Figures {
    /// Processor time of the server, us per acknowledged message.
    pub(crate) server_us: f64,
    /// Processor time of the queue, us per acknowledged message; 0 without a queue.
    pub(crate) queue_us: f64,
    /// Processor time of the simulated devices, us per acknowledged message.
    pub(crate) devices_us: f64,
    /// Acknowledged messages per second.
    pub(crate) rate: f64,
    /// From a message to its acknowledgement.
    pub(crate) latency: Latency,
    /// The same at half of that rate, where it was asked for.
    pub(crate) half: Option<Latency>,
}

/// Time until acknowledgements came, ms: that many per cent took at most so long.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server_us, queue_us, devices_us, rate, latency, half } = self;
        let Latency { p50, p99, .. } = latency;
        write!(f, "{server_us:.2} us, {:.1} thousand/s, p50 {p50:.1} ms, p99 {p99:.1} ms", rate / 1e3)?;
        if let Some(Latency { p50, p99, .. }) = half {
            write!(f, ", at half of that p50 {p50:.1} ms, p99 {p99:.1} ms")?;
        }
        write!(f, " (devices {devices_us:.1} us, queue {queue_us:.1} us)")
    }
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

/// Where processes run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cores {
    /// Wherever the system puts them.
    Any,
    /// Servers on the first core, devices on the second.
    Apart,
}

impl Cores {
    /// A call of a build of the bridge: as a server, or as devices.
    pub(crate) fn command(self, program: &Path, is_server: bool) -> Command {
        match self {
            Cores::Any => Command::new(program),
            Cores::Apart => {
                let mut command = Command::new("taskset");
                command.args(["--cpu-list", if is_server { "0" } else { "1" }]).arg(program);
                command
            }
        }
    }
}

/// The build that this benchmark belongs to.
pub(crate) fn own_program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_jetlinks-bridge"))
}

/// Measures a peer: starts it, loads it, `with_half` of the rate that it took besides, and ends it.
pub(crate) fn measure(
    peer: Peer,
    load: Load,
    seconds: u64,
    with_half: bool,
    queues: &mut Queues,
) -> Result<Figures, String> {
    let server = peer.start(own_program(), load, queues, Cores::Any)?;
    let mut figures = Devices::start(&server, load, 0.0, seconds, Cores::Any).measure(&server, seconds)?;
    if with_half {
        let rate = figures.rate / 2.0 / f64::from(load.devices);
        let half = Devices::start(&server, load, rate, seconds, Cores::Any).measure(&server, seconds)?;
        figures.half = Some(half.latency);
    }
    Ok(figures)
}

/// Measures two peers, each of a build, at the same time on one core: whatever slows the machine slows both.
pub(crate) fn measure_both(
    peers: [(Peer, &Path); 2],
    load: Load,
    seconds: u64,
    queues: &mut Queues,
) -> Result<[Figures; 2], String> {
    let [first, second] = peers;
    let mut start = |(peer, program): (Peer, &Path)| peer.start(program, load, queues, Cores::Apart);
    let servers = [start(first)?, start(second)?];
    thread::scope(|scope| {
        let both = servers.each_ref().map(|server| {
            let devices = Devices::start(server, load, 0.0, seconds, Cores::Apart);
            scope.spawn(move || devices.measure(server, seconds))
        });
        let [first, second] = both.map(|thread| thread.join().map_err(|_| "a measurement panicked".to_owned())?);
        Ok([first?, second?])
    })
}

/// Simulated devices that load a server.
struct Devices {
    process: Process,
    stdout: ChildStdout,
    progress: Lines<BufReader<ChildStderr>>,
}

impl Devices {
    /// Starts them; each sends at that rate a second, at 0 as fast as its window allows.
    fn start(server: &Server, load: Load, rate: f64, seconds: u64, cores: Cores) -> Self {
        let mut command = cores.command(own_program(), false);
        command.arg("simulate").args(["--qos", "1", "--output", "json", "--warmup", "1s"]);
        command.args(["--rate", &rate.to_string()]);
        command.args(["--address", &server.address.to_string(), "--window", &load.window.to_string()]);
        command.args(["--transport", load.transport.name()]);
        command.args(["--duration", &format!("{}s", SETTLING_SECONDS + seconds)]);
        match &server.registry {
            Some(registry) => {
                command.arg("--registry").arg(registry.path()).args(["--devices", &load.devices.to_string()]);
            }
            None => {
                command.args(["--anonymous", "--generate", &load.devices.to_string()]);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::spawn(&mut command, None);
        // Both were piped a line above.
        let (stdout, stderr) = (process.take_stdout().expect("piped"), process.take_stderr().expect("piped"));
        Self { process, stdout, progress: BufReader::new(stderr).lines() }
    }

    fn measure(mut self, server: &Server, seconds: u64) -> Result<Figures, String> {
        let id = self.process.id();
        let from = next_moment(&mut self.progress, server, id)?;
        let until = loop {
            let moment = next_moment(&mut self.progress, server, id)?;
            if moment.elapsed_ms >= from.elapsed_ms + seconds * 1_000 {
                break moment;
            }
        };
        self.process.signal(libc::SIGINT);
        let mut summary = String::new();
        self.stdout.read_to_string(&mut summary).map_err(|error| error.to_string())?;
        let code = self.process.exit_code(Duration::from_secs(30));
        if code != 0 {
            return Err(format!("the devices ended with {code}"));
        }
        let summary: Value = serde_json::from_str(&summary).map_err(|error| error.to_string())?;
        figures(from, until, &summary)
    }
}

/// Reads the devices' progress up to a line of steady load, and the processor times of that moment.
fn next_moment(progress: &mut Lines<BufReader<ChildStderr>>, server: &Server, devices: u32) -> Result<Moment, String> {
    for line in progress.by_ref() {
        let line = line.map_err(|error| error.to_string())?;
        let Ok(told) = serde_json::from_str::<Value>(&line) else { return Err(line) };
        if told["measuring"] == true {
            return Ok(Moment {
                elapsed_ms: told["elapsed_ms"].as_u64().unwrap_or_default(),
                acknowledged: told["acknowledged"].as_u64().unwrap_or_default(),
                server_us: processor::time_us(server.id()),
                queue_us: server.queue.map_or(0, processor::time_us),
                devices_us: processor::time_us(devices),
            });
        }
    }
    Err("the devices ended before the load was steady".to_owned())
}

fn figures(from: Moment, until: Moment, summary: &Value) -> Result<Figures, String> {
    let acknowledged = until.acknowledged.saturating_sub(from.acknowledged);
    if acknowledged == 0 {
        return Err("nothing was acknowledged".to_owned());
    }
    let reconnects = summary["reconnects"].as_u64().unwrap_or_default();
    if reconnects > 0 {
        return Err(format!("{reconnects} connections were lost under load"));
    }
    let per_message = |from: u64, until: u64| until.saturating_sub(from) as f64 / acknowledged as f64;
    let latency = |name: &str| summary["latency_ms"][name].as_f64().unwrap_or_default();
    Ok(Figures {
        server_us: per_message(from.server_us, until.server_us),
        queue_us: per_message(from.queue_us, until.queue_us),
        devices_us: per_message(from.devices_us, until.devices_us),
        rate: acknowledged as f64 * 1e3 / (until.elapsed_ms - from.elapsed_ms) as f64,
        latency: Latency { p50: latency("p50"), p90: latency("p90"), p99: latency("p99"), max: latency("max") },
        half: None,
    })
}
