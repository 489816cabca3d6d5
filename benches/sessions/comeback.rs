//! Devices that come back at once, and those that stayed meanwhile.

use std::io::{BufRead, BufReader, Read};
use std::process::{ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::processor;
use crate::support::bridge::command;
use crate::support::{Bridge, Nats, Process, Registry, Settings, eventually};

/// Devices that stay.
const STAYING: u32 = 100;

/// Messages of each of them in a second, whether earlier ones are acknowledged or not.
const PER_SECOND: u32 = 20;

/// Messages of each of them that may be unacknowledged: so many that it never waits.
const OPEN_WINDOW: u32 = 30_000;

/// Time that is measured before the others come.
const BEFORE: Duration = Duration::from_secs(5);

const PATIENCE: Duration = Duration::from_secs(120);

/// Pause between two looks at the metrics, for the bridge writes the page.
const LOOK: Duration = Duration::from_millis(250);

/// Cores of the bridge, and of all devices; NATS runs wherever the system puts it.
const BRIDGE: &str = "0";
const DEVICES: &str = "1";

/// Percentiles that are told, by their names in a summary.
const PERCENTILES: [&str; 5] = ["p50", "p95", "p99", "p999", "max"];

/// Measures what `devices` that come back, `per_second` at most, do to those that stayed: one worker, records, claims and
/// commands over NATS.
pub(crate) fn measure(devices: u32, per_second: u32) {
    println!("\n{devices} devices come back, {per_second}/s at most; {STAYING} stayed, {PER_SECOND} messages/s each:");
    let nats = Nats::start();
    let (registry, all) = Registry::numbered((STAYING + devices) as usize);
    let (staying, returning) = all.split_at(STAYING as usize);
    let (staying, returning) = (Registry::new(staying), Registry::new(returning));
    let settings = Settings::nats(&registry, &nats).toml("limits.connect_rate", "1000000");
    let mut bridge = Bridge::start_by(on_core(BRIDGE), &settings);
    bridge.forget_lines();
    let id = bridge.process().id();
    eventually("the replica coordinates", PATIENCE, || (bridge.readiness().1["coordination"] == "ok").then_some(()));
    let until_connected = |count: u32| {
        eventually("all devices are connected", PATIENCE, || {
            thread::park_timeout(LOOK);
            (bridge.metric("jetlinks_bridge_sessions", &[]) as u32 == count).then_some(())
        });
    };
    // They were here before, and were cut off.
    let mut crowd = start(&bridge, &returning, devices, &["--hold", "--connect-rate", &per_second.to_string()]);
    until_connected(devices);
    crowd.process.kill9();
    until_connected(0);

    let stay = || {
        let arguments = ["--rate", &PER_SECOND.to_string(), "--window", &OPEN_WINDOW.to_string(), "--warmup", "1s"];
        let mut devices = start(&bridge, &staying, STAYING, &arguments);
        devices.until_measuring();
        devices
    };
    let quiet = stay();
    let end = Instant::now() + BEFORE;
    eventually("the time before is over", PATIENCE, || (Instant::now() >= end).then_some(()));
    let before = quiet.end();

    let watched = stay();
    let used_us = processor::time_us(id);
    let crowd = start(&bridge, &returning, devices, &["--hold", "--connect-rate", &per_second.to_string()]);
    until_connected(STAYING + devices);
    let used_us = processor::time_us(id).saturating_sub(used_us);
    let during = watched.end();
    let seconds = crowd.end()["connecting_seconds"].as_f64().unwrap_or(f64::NAN);

    let rate = f64::from(devices) / seconds;
    let each_us = used_us as f64 / f64::from(devices);
    println!(
        "all back after {seconds:.2} s, {rate:.0}/s; bridge {each_us:.0} us for each, the others' messages included"
    );
    println!(
        "| time until PUBACK of those that stayed, ms | p50 | p95 | p99 | p99.9 | max |\n|---|---|---|---|---|---|"
    );
    for (name, summary) in [("before", &before), ("meanwhile", &during)] {
        let cells = PERCENTILES.map(|percentile| format!("{:.2}", latency(summary, percentile)));
        println!("| {name} | {} |", cells.join(" | "));
    }
    let ratios = PERCENTILES
        .map(|percentile| format!("{:.1}", latency(&during, percentile) / latency(&before, percentile).max(0.001)));
    println!("| ratio | {} |", ratios.join(" | "));
    for (name, summary) in [("before", &before), ("meanwhile", &during)] {
        let (missing, lost) = (&summary["unacknowledged"], &summary["reconnects"]);
        println!("{name}: {} acknowledged, {missing} not, {lost} connections lost", summary["acknowledged"]);
    }
}

/// A call of the bridge's program on that core.
fn on_core(core: &str) -> Command {
    let mut call = Command::new("taskset");
    call.args(["--cpu-list", core]).arg(command().get_program());
    call
}

fn latency(summary: &Value, percentile: &str) -> f64 {
    summary["latency_ms"][percentile].as_f64().unwrap_or(f64::NAN)
}

/// Simulated devices, whose progress and summary are JSON.
struct Devices {
    process: Process,
    stdout: ChildStdout,
    stderr: BufReader<std::process::ChildStderr>,
}

/// Starts devices; those that only hold give way to those that send, as both run on one core.
fn start(bridge: &Bridge, registry: &Registry, count: u32, arguments: &[&str]) -> Devices {
    let mut call = on_core(DEVICES);
    if arguments.contains(&"--hold") {
        let mut nice = Command::new("nice");
        nice.args(["-n", "19"]).arg(call.get_program()).args(call.get_args());
        call = nice;
    }
    call.args(["simulate", "--output", "json", "--duration", "300s"])
        .args(["--address", &bridge.mqtt().to_string(), "--devices", &count.to_string(), "--registry"])
        .arg(registry.path())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process = Process::spawn(&mut call, None);
    // Both were piped just now.
    let (stdout, stderr) = (process.take_stdout().expect("piped"), process.take_stderr().expect("piped"));
    Devices { process, stdout, stderr: BufReader::new(stderr) }
}

impl Devices {
    /// Waits until latencies count.
    fn until_measuring(&mut self) {
        let mut line = String::new();
        while !line.contains("\"measuring\":true") {
            line.clear();
            assert_ne!(self.stderr.read_line(&mut line).expect("progress is text"), 0, "the devices ended");
        }
    }

    /// Ends them; their summary.
    fn end(mut self) -> Value {
        self.process.signal(libc::SIGINT);
        let mut summary = String::new();
        self.stdout.read_to_string(&mut summary).expect("the summary is text");
        serde_json::from_str(&summary).expect("the summary is JSON")
    }
}
