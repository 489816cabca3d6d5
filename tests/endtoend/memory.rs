//! Memory of the bridge against the documented bound, while a queue hangs and devices send all they may.

use std::time::Duration;

use crate::support::{Bridge, Kafka, Nats, Process, Registry, Settings, Wire, eventually, packet};

const PATIENCE: Duration = Duration::from_secs(60);
const SIGSTOP: i32 = 19;
const MIB: u64 = 1 << 20;

/// `limits.inflight_bytes` of every shape.
const INFLIGHT: u64 = 64 * MIB;

/// So many equal readings mean that nothing changes any more; the metric is renewed every 100 ms.
const UNCHANGED: usize = 200;

/// One way of filling the room for messages under way.
struct Shape {
    devices: usize,
    payload_bytes: usize,
    mode: &'static str,
    suffix: &'static str,
}

const SHAPES: [Shape; 5] = [
    Shape { devices: 200, payload_bytes: 16_000, mode: "structured", suffix: "properties/report" },
    Shape { devices: 2_000, payload_bytes: 20, mode: "binary", suffix: "properties/report" },
    Shape { devices: 2_000, payload_bytes: 20, mode: "structured", suffix: "properties/report" },
    Shape { devices: 50, payload_bytes: 190_000, mode: "structured", suffix: "direct" },
    Shape { devices: 100, payload_bytes: 33_000, mode: "structured", suffix: "nosuch" },
];

/// A report of about so many bytes.
fn payload(bytes: usize) -> String {
    format!(r#"{{"properties":{{"a":"{}"}}}}"#, "x".repeat(bytes.saturating_sub(24)))
}

/// Fills the room for messages under way; the most memory that the bridge took, and the bound.
fn fill(shape: &Shape, settings: impl Fn(&Registry) -> Settings, queue: &Process) -> (u64, u64) {
    let (registry, devices) = Registry::numbered(shape.devices);
    let settings = settings(&registry)
        .text("envelope.mode", shape.mode)
        .text("commands.queue", "none")
        .text("limits.inflight_bytes", "64MiB")
        .text("limits.ack_timeout", "60s");
    let mut bridge = Bridge::start(&settings);
    let mut wires: Vec<Wire> = devices.iter().map(|device| Wire::connect(bridge.mqtt(), device)).collect();
    queue.signal(SIGSTOP);
    let payload = payload(shape.payload_bytes);
    // Of each device no more than its socket takes while the bridge does not read.
    let each = (2 * INFLIGHT as usize / shape.devices / (payload.len() + 600)).clamp(1, 80);
    for (wire, device) in wires.iter_mut().zip(&devices) {
        for id in 1..=each {
            let id = u16::try_from(id).unwrap();
            wire.send(&packet::publish(&device.topic(shape.suffix), payload.as_bytes(), 1, id));
        }
    }
    let (mut last, mut unchanged) = (0.0, 0);
    eventually("the bridge takes no more in", PATIENCE, || {
        let held = bridge.metric("jetlinks_bridge_inflight_bytes", &[]);
        unchanged = if held > 0.45 * INFLIGHT as f64 && (held - last).abs() < 1.0 { unchanged + 1 } else { 0 };
        last = held;
        (unchanged > UNCHANGED).then_some(())
    });
    let connections = shape.devices as u64;
    (bridge.process().peak_bytes(), 64 * MIB + INFLIGHT + connections * 16 * 1024)
}

#[expect(clippy::print_stdout, reason = "a measured figure, for whoever asks with --nocapture")]
fn assert_bounded(name: &str, shape: &Shape, (peak, bound): (u64, u64)) {
    println!(
        "{name}: {} x {} B, {} {}: {} of {} MiB",
        shape.devices,
        shape.payload_bytes,
        shape.mode,
        shape.suffix,
        peak / MIB,
        bound / MIB
    );
    assert!(peak <= bound, "{name}: {} of {} MiB", peak / MIB, bound / MIB);
}

#[test]
fn memory_stays_within_its_bound_while_nats_hangs() {
    for shape in &SHAPES {
        let nats = Nats::start();
        let filled = fill(shape, |registry| Settings::nats(registry, &nats), nats.process());
        assert_bounded("NATS", shape, filled);
    }
}

#[test]
fn memory_stays_within_its_bound_while_kafka_hangs() {
    for shape in &SHAPES {
        let kafka = Kafka::start_with_topics(&["jetlinks.device", "jetlinks.rejected"], 3);
        let filled = fill(shape, |registry| Settings::kafka(registry, &kafka), kafka.process());
        assert_bounded("Kafka", shape, filled);
    }
}
