//! The end of the bridge, with traffic in flight.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::packet::{self, Packet};
use crate::support::wire::Incoming;
use crate::support::{Bridge, Connect, Registration, Registry, Settings, Wire, eventually, http};

/// How long anything may take that takes milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Messages that a device keeps on their way.
const WINDOW: u16 = 16;

/// Publishes numbered events until the bridge closes the connection; how many were acknowledged.
fn publish_until_closed(address: SocketAddr, device: &Registration) -> u64 {
    let mut wire = Wire::connect(address, device);
    let topic = device.topic("event/e");
    let (mut sent, mut acknowledged) = (0, 0);
    loop {
        while sent < acknowledged + u64::from(WINDOW) {
            sent += 1;
            let id = u16::try_from(sent % 60_000 + 1).unwrap();
            wire.send_regardless(&packet::publish(&topic, format!(r#"{{"data":{sent}}}"#).as_bytes(), 1, id));
        }
        match wire.next() {
            Incoming::Packet(answer) => {
                acknowledged += 1;
                let id = u16::try_from(acknowledged % 60_000 + 1).unwrap();
                assert_eq!(answer, Packet::answer(packet::PUBACK, id));
            }
            Incoming::Closed => return acknowledged,
        }
    }
}

#[test]
fn a_signal_drains_every_device_and_loses_no_acknowledged_message() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let (registry, devices) = Registry::numbered(20);
        let mut bridge = Bridge::start(&Settings::stdio(&registry));
        let address = bridge.mqtt();
        let running: Vec<_> = devices
            .iter()
            .cloned()
            .map(|device| thread::spawn(move || (device.id.clone(), publish_until_closed(address, &device))))
            .collect();
        let mut envelopes = Vec::new();
        while envelopes.len() < 2000 {
            envelopes.push(bridge.next_envelope());
        }
        bridge.signal(signal);
        envelopes.extend(bridge.remaining_envelopes());
        assert_eq!(bridge.exit_code(), 0, "{}", bridge.log());

        let mut written: HashMap<String, u64> = HashMap::new();
        let mut drained = Vec::new();
        for envelope in &envelopes {
            let device = envelope["deviceid"].as_str().unwrap().to_owned();
            assert!(!drained.contains(&device), "after its offline: {envelope}");
            match envelope["type"].as_str().unwrap() {
                "org.jetlinks.device.event" => {
                    let count = written.entry(device).or_default();
                    *count += 1;
                    assert_eq!(envelope["data"]["data"], *count);
                }
                "org.jetlinks.device.offline" => {
                    assert_eq!(envelope["data"]["headers"]["cause"], "drained", "{envelope}");
                    drained.push(device);
                }
                other => assert_eq!(other, "org.jetlinks.device.online"),
            }
        }
        assert_eq!(drained.len(), devices.len());
        for device in running {
            let (id, acknowledged) = device.join().unwrap();
            assert!(written[&id] >= acknowledged, "{id}: {acknowledged} acknowledged, {} written", written[&id]);
        }
    }
}

#[test]
fn a_will_is_not_published_by_a_drain() {
    let (registry, devices) = Registry::numbered(1);
    let mut bridge = Bridge::start(&Settings::stdio(&registry));
    let connect = Connect::of(&devices[0]).will(&devices[0].topic("event/will"), r#"{"data":1}"#);
    let mut wire = Wire::connect_as(bridge.mqtt(), &connect);
    bridge.expect("device.online", "device1");
    bridge.signal(libc::SIGTERM);
    wire.wait_closed();
    let rest = bridge.remaining_envelopes();
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert_eq!(rest[0]["data"]["headers"]["cause"], "drained");
    assert_eq!(bridge.exit_code(), 0);
}

/// A bridge that drains one device a second, with more of them than a test takes seconds. The last device is not connected.
struct Draining {
    bridge: Bridge,
    late: Registration,
    _wires: Vec<Wire>,
    _registry: Registry,
}

impl Draining {
    /// Tells the bridge to end by these signals, which come together.
    fn start(signals: &[i32]) -> Self {
        const DEVICES: usize = 20;
        let (registry, mut devices) = Registry::numbered(DEVICES + 1);
        let bridge = Bridge::start(&Settings::stdio(&registry).toml("drain.rate", "1"));
        let late = devices.remove(DEVICES);
        let wires = devices.iter().map(|device| Wire::connect(bridge.mqtt(), device)).collect();
        bridge.signal(libc::SIGSTOP);
        signals.iter().chain(&[libc::SIGCONT]).for_each(|signal| bridge.signal(*signal));
        eventually("the bridge drains", PATIENCE, || (bridge.readiness().1["draining"] == true).then_some(()));
        Self { bridge, late, _wires: wires, _registry: registry }
    }
}

#[test]
fn a_draining_bridge_is_alive_but_not_ready_and_lets_nobody_in() {
    let mut draining = Draining::start(&[libc::SIGTERM]);
    let bridge = &mut draining.bridge;
    let (status, body) = bridge.readiness();
    assert_eq!((status, &body["ready"]), (503, &serde_json::Value::Bool(false)), "{body}");
    assert_eq!(http::get(bridge.admin(), "/livez").unwrap().status, 200);
    // Refused at the door or at CONNECT, never accepted.
    if let Ok(mut stream) = std::net::TcpStream::connect(bridge.mqtt()) {
        use std::io::{Read as _, Write as _};
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        drop(stream.write_all(&Connect::of(&draining.late).bytes()));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        assert!(answer.is_empty() || answer == [0x20, 2, 0, 3], "{answer:?}");
    }
    assert_eq!(bridge.exit_code(), 0);
}

#[test]
fn a_signal_that_comes_again_at_once_is_no_second_one() {
    // As `timeout` of coreutils sends it: to its child, and then to the group of both.
    let Draining { bridge, .. } = &mut Draining::start(&[libc::SIGTERM, libc::SIGINT]);
    assert_eq!(bridge.exit_code(), 0, "{}", bridge.log());
}

#[test]
fn a_second_signal_ends_the_bridge_at_once() {
    let Draining { bridge, .. } = &mut Draining::start(&[libc::SIGTERM]);
    eventually("it is told that there was a second one", PATIENCE, || {
        bridge.signal(libc::SIGTERM);
        bridge.log().contains("a second signal: ending at once").then_some(())
    });
    assert_eq!(bridge.exit_code(), 1);
}

#[test]
fn a_drain_that_the_queue_does_not_let_finish_ends_at_its_deadline_with_a_failure() {
    let (registry, devices) = Registry::numbered(1);
    let settings = Settings::stdio(&registry).text("limits.ack_timeout", "10m").text("drain.timeout", "500ms");
    let mut bridge = Bridge::spawn(&settings, &[]);
    let mut wire = Wire::connect(bridge.mqtt(), &devices[0]);
    // More than a pipe holds that nobody reads.
    let body = format!(r#"{{"data":"{}"}}"#, "x".repeat(4096));
    let mut sent = 0;
    for id in 1..=60 {
        let message = packet::publish(&devices[0].topic("event/e"), body.as_bytes(), 1, id);
        sent += message.len();
        wire.send(&message);
    }
    eventually("the bridge has all of them", PATIENCE, || {
        let received = bridge.metric("jetlinks_bridge_received_bytes_total", &["mqtt"]);
        (received >= sent as f64).then_some(())
    });
    bridge.signal(libc::SIGTERM);
    assert_eq!(bridge.exit_code(), 1, "{}", bridge.log());
}

#[test]
fn the_end_of_stdin_ends_nothing() {
    let (registry, devices) = Registry::numbered(1);
    let mut bridge = Bridge::start(&Settings::stdio(&registry));
    bridge.close_stdin();
    let mut wire = Wire::connect(bridge.mqtt(), &devices[0]);
    bridge.expect("device.online", "device1");
    wire.publish_acknowledged(&devices[0].topic("tags"), r#"{"tags":{"a":1}}"#, 1);
    bridge.expect("device.tags", "device1");
    bridge.signal(libc::SIGTERM);
    assert_eq!(bridge.exit_code(), 0);
}

#[test]
fn a_slow_drain_keeps_its_pace() {
    let (registry, devices) = Registry::numbered(6);
    let settings = Settings::stdio(&registry).toml("drain.rate", "2").toml("runtime.workers", "1");
    let mut bridge = Bridge::start(&settings);
    let mut wires: Vec<Wire> = devices.iter().map(|device| Wire::connect(bridge.mqtt(), device)).collect();
    let begin = Instant::now();
    bridge.signal(libc::SIGTERM);
    wires.iter_mut().for_each(Wire::wait_closed);
    assert!(begin.elapsed() > Duration::from_secs(2), "6 devices at 2 a second took {:?}", begin.elapsed());
    assert_eq!(bridge.exit_code(), 0, "{}", bridge.log());
}
