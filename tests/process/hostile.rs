//! Peers that mean no good: the bridge survives them, and the others do not notice.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use jetlinks_bridge::protocol::random::Random;
use socket2::{Domain, Socket, Type};

use crate::Stage;
use crate::command::command;
use crate::support::packet;
use crate::support::registry::now_ms;
use crate::support::wait;
use crate::support::wire::Incoming;
use crate::support::{Bridge, Connect, Registration, Registry, Settings, Wire};

/// How long anything may take that takes milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A stage that waits longer for a bad peer than tests wait for anything: whoever waits with it fails.
fn patient_stage() -> Stage {
    Stage::with(|settings| settings.text("mqtt.connect_timeout", "10m"))
}

/// Shows that device1 is served.
fn assert_serves(stage: &mut Stage, wire: &mut Wire, id: u16) {
    wire.publish_acknowledged(&stage.device1.topic("tags"), r#"{"tags":{"a":1}}"#, id);
    stage.bridge.expect("device.tags", "device1");
}

/// A generator whose seed the test tells; good enough to make garbage.
struct Garbage(Random);

impl Garbage {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.0.draw().to_be_bytes()[0]).collect()
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap();
        usize::try_from(self.0.below(bound)).unwrap()
    }
}

#[test]
fn bytes_that_are_no_connect_are_closed_without_a_word() {
    let mut stage = patient_stage();
    let mut good = stage.connect1();
    let connect = Connect::of(&stage.device2).bytes();
    let with = |at: usize, byte: u8| {
        let mut bytes = connect.clone();
        bytes[at] = byte;
        bytes
    };
    let cases: [(&str, Vec<u8>); 12] = [
        ("another protocol", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("TLS", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3]),
        ("zeros", vec![0; 64]),
        ("ones", vec![0xFF; 64]),
        ("a length without end", vec![0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
        ("a length over all limits", vec![0x10, 0xFF, 0xFF, 0xFF, 0x7F]),
        ("an empty CONNECT", vec![0x10, 0]),
        ("flags in the first byte", with(0, 0x1F)),
        ("another protocol name", with(4, b'X')),
        ("the reserved flag", with(9, 0xC3)),
        ("a password without a user name", with(9, 0x42)),
        ("PUBLISH first", packet::publish("/product1/device1/tags", b"{}", 0, 0)),
    ];
    for (id, (what, bytes)) in (1..).zip(cases) {
        let mut bad = Wire::open(stage.bridge.mqtt());
        bad.send_regardless(&bytes);
        assert_eq!(bad.next(), Incoming::Closed, "{what}");
        assert_serves(&mut stage, &mut good, id);
    }
    stage.assert_nothing_written();
}

#[test]
fn random_bytes_harm_nobody() {
    let seed = now_ms().unsigned_abs() | 1;
    println!("seed {seed}");
    let mut garbage = Garbage(Random::new(seed.into()));
    let mut stage = Stage::new();
    let mut good = stage.connect1();
    for id in 1..=100 {
        let mut bad = Wire::open(stage.bridge.mqtt());
        let mut bytes = Connect::of(&stage.device2).bytes();
        match id % 3 {
            0 => bytes = garbage.bytes(200),
            1 => {
                let at = garbage.below(bytes.len());
                bytes[at] = garbage.bytes(1)[0];
            }
            _ => bytes.truncate(garbage.below(bytes.len())),
        }
        bad.send_regardless(&bytes);
        bad.send_regardless(&garbage.bytes(50));
        bad.read_to_end();
        good.publish_acknowledged(&stage.device1.topic("tags"), r#"{"tags":{"a":1}}"#, id);
    }
    assert_eq!(stage.bridge.readiness().0, 200);
    assert!(!stage.bridge.log().contains("panicked"), "{}", stage.bridge.log());
}

#[test]
fn random_packets_of_authenticated_devices_harm_nobody_else() {
    let seed = now_ms().unsigned_abs() | 1;
    println!("seed {seed}");
    let mut garbage = Garbage(Random::new(seed.into()));
    let (registry, devices) = Registry::numbered(101);
    let bridge = Bridge::start(&Settings::stdio(&registry));
    let mut good = Wire::connect(bridge.mqtt(), &devices[0]);
    for (id, device) in (1..).zip(&devices[1..]) {
        let header = garbage.bytes(1)[0];
        let size = garbage.below(64);
        let bytes = packet::packet(header, &garbage.bytes(size));
        let mut bad = Wire::open(bridge.mqtt());
        bad.send_regardless(&[Connect::of(device).bytes(), bytes].concat());
        bad.read_to_end();
        good.publish_acknowledged(&devices[0].topic("tags"), r#"{"tags":{"a":1}}"#, id);
    }
    assert!(!bridge.log().contains("panicked"), "{}", bridge.log());
}

#[test]
fn peers_that_say_half_a_packet_and_wait_delay_nobody() {
    let mut stage = patient_stage();
    let mut good = stage.connect1();
    let connect = Connect::of(&stage.device2).bytes();
    let waiting: Vec<Wire> = (0..200)
        .map(|number| {
            let mut wire = Wire::open(stage.bridge.mqtt());
            wire.send(&connect[..number % connect.len()]);
            wire
        })
        .collect();
    for id in 1..=20 {
        assert_serves(&mut stage, &mut good, id);
    }
    drop(waiting);
    assert_serves(&mut stage, &mut good, 21);
}

#[test]
fn an_announced_length_reserves_no_memory() {
    let mut stage = patient_stage();
    let mut good = stage.connect1();
    let before = stage.bridge.process().resident_bytes();
    let waiting: Vec<Wire> = (0..200)
        .map(|_| {
            let mut wire = Wire::open(stage.bridge.mqtt());
            // A mebibyte, the most that is not refused outright.
            wire.send(&[0x10, 0x80, 0x80, 0x40]);
            wire
        })
        .collect();
    assert_serves(&mut stage, &mut good, 1);
    let grown = stage.bridge.process().resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "200 announcements cost {grown} bytes");
    drop(waiting);
}

#[test]
fn a_device_that_does_not_read_its_commands_delays_nobody_and_costs_bounded_memory() {
    let mut stage = Stage::with(|settings| settings.text("commands.timeout", "100ms"));
    let mut good = stage.connect(&stage.device2.clone());
    let _deaf = stage.connect1();
    let padding = "x".repeat(16 * 1024);
    let before = stage.bridge.process().resident_bytes();
    // In all more than the socket's buffers hold.
    for round in 1..=16 {
        for number in 0..64 {
            let members = format!(r#""messageId":"m{round}-{number}","properties":{{"a":"{padding}"}}"#);
            stage.bridge.type_line(&command("WRITE_PROPERTY", &members));
        }
        good.publish_acknowledged(&stage.device2.topic("tags"), r#"{"tags":{"a":1}}"#, round);
        let (mut failures, mut served) = (0, false);
        while failures < 64 || !served {
            let envelope = stage.bridge.next_envelope();
            match envelope["type"].as_str().unwrap() {
                "org.jetlinks.device.tags" => served = true,
                "org.jetlinks.device.properties.write.reply" => {
                    assert_eq!(envelope["data"]["success"], false, "{envelope}");
                    failures += 1;
                }
                // The bridge may lose patience with a peer that reads nothing.
                other => assert_eq!(other, "org.jetlinks.device.offline"),
            }
        }
    }
    let grown = stage.bridge.process().resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "a deaf device cost {grown} bytes");
}

#[test]
fn a_large_command_to_each_device_that_does_not_read_costs_bounded_memory() {
    let (mut bridge, devices, _registry) = frugal(41);
    let deaf: Vec<Wire> =
        devices[1..].iter().map(|device| Wire::connect_over(dial_deaf(bridge.mqtt()), device)).collect();
    let mut good = Wire::connect(bridge.mqtt(), &devices[0]);
    let large = "x".repeat(1_000_000);
    let command = |bridge: &mut Bridge, device: &Registration, padding: &str| {
        bridge.type_line(&format!(
            r#"{{"messageType":"WRITE_PROPERTY","productId":"product1","deviceId":"{}","headers":{{"sendAndForget":true}},"properties":{{"a":"{padding}"}}}}"#,
            device.id
        ));
        // Between them stands the presence of the others.
        let mut outcomes = std::iter::repeat_with(|| bridge.next_envelope());
        let outcome = outcomes.find(|envelope| envelope["type"] == "org.jetlinks.device.properties.write.reply");
        outcome.expect("there is always another")["data"].clone()
    };
    let before = bridge.process().resident_bytes();
    let mut busy = 0;
    for device in &devices[1..] {
        let outcome = command(&mut bridge, device, &large);
        busy += usize::from(outcome["code"] == "SYSTEM_BUSY");
    }
    let grown = bridge.process().resident_bytes().saturating_sub(before);
    println!("40 commands of a megabyte cost {grown} bytes, {busy} of them found the bridge busy");
    assert!(grown < 12 << 20, "40 commands of a megabyte cost {grown} bytes");
    assert!(busy > 20, "{busy} of 40 found the bridge busy");
    // What may wait for devices is used up, and a device that reads gets its commands all the same.
    let outcome = command(&mut bridge, &devices[0], "x");
    assert_eq!(outcome["success"], true, "{outcome}");
    assert_eq!(good.next_publish().json()["properties"]["a"], "x");
    drop(deaf);
    // Room comes back with the connections.
    wait::eventually("a large command finds room", PATIENCE, || {
        let outcome = command(&mut bridge, &devices[0], &large);
        (outcome["success"] == true).then_some(())
    });
    assert_eq!(good.next_publish().json()["properties"]["a"], large);
}

/// A connection whose system takes next to nothing that nobody reads.
fn dial_deaf(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    // The other side sizes its buffer by this.
    socket.set_tcp_mss(536).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A bridge with little memory for what is on its way, and its devices.
pub(crate) fn frugal(devices: usize) -> (Bridge, Vec<Registration>, Registry) {
    let (registry, devices) = Registry::numbered(devices);
    let settings = Settings::stdio(&registry).text("limits.inflight_bytes", "4MiB");
    (Bridge::start(&settings), devices, registry)
}

/// Sends a large message of each device but for its last byte; the message, and the connections.
pub(crate) fn send_halves(bridge: &Bridge, devices: &[Registration]) -> (String, Vec<Wire>) {
    let large = format!(r#"{{"tags":{{"a":"{}"}}}}"#, "x".repeat(200 * 1024));
    let halves = devices.iter().map(|device| {
        let mut wire = Wire::connect(bridge.mqtt(), device);
        let packet = packet::publish(&device.topic("tags"), large.as_bytes(), 1, 1);
        wire.send(&packet[..packet.len() - 1]);
        wire
    });
    let halves = halves.collect();
    (large, halves)
}

#[test]
fn half_packets_of_many_devices_share_one_budget_and_small_messages_pass() {
    let (mut bridge, devices, _registry) = frugal(202);
    let mut good = Wire::connect(bridge.mqtt(), &devices[0]);
    let before = bridge.process().resident_bytes();
    let (large, halves) = send_halves(&bridge, &devices[2..]);
    for id in 1..=20 {
        good.publish_acknowledged(&devices[0].topic("tags"), r#"{"tags":{"a":1}}"#, id);
    }
    let grown = bridge.process().resident_bytes().saturating_sub(before);
    assert!(grown < 20 << 20, "200 half packets of 200 KiB cost {grown} bytes");
    let mut patient = Wire::connect(bridge.mqtt(), &devices[1]);
    patient.publish(&devices[1].topic("tags"), &large, 1, 7);
    drop(halves);
    assert_eq!(patient.next_packet(), packet::Packet::answer(packet::PUBACK, 7));
}

#[test]
fn large_packets_begun_together_all_end() {
    let (bridge, devices, _registry) = frugal(41);
    let large = format!(r#"{{"tags":{{"a":"{}"}}}}"#, "x".repeat(200 * 1024));
    let mut wires: Vec<(Wire, Vec<u8>)> = devices[1..]
        .iter()
        .map(|device| {
            let mut packet = packet::publish(&device.topic("tags"), large.as_bytes(), 1, 1);
            let rest = packet.split_off(100 * 1024);
            let mut wire = Wire::connect(bridge.mqtt(), device);
            wire.send(&packet);
            (wire, rest)
        })
        .collect();
    for (wire, rest) in &mut wires {
        wire.send(rest);
    }
    for (wire, _) in &mut wires {
        assert_eq!(wire.next_packet(), packet::Packet::answer(packet::PUBACK, 1));
    }
}

#[test]
fn connects_that_never_end_share_one_budget() {
    let (mut bridge, devices, _registry) = frugal(2);
    let before = bridge.process().resident_bytes();
    // Client id, topic and message of the will, user name: as long as a CONNECT of 256 KiB can be.
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 0xC6, 0, 0];
    for _ in 0..4 {
        body.extend_from_slice(&60_000_u16.to_be_bytes());
        body.extend(std::iter::repeat_n(b'x', 60_000));
    }
    let connect = packet::packet(0x10, &body);
    let waiting: Vec<Wire> = (0..200)
        .map(|_| {
            let mut wire = Wire::open(bridge.mqtt());
            wire.send(&connect[..connect.len() - 1]);
            wire
        })
        .collect();
    let mut good = Wire::connect(bridge.mqtt(), &devices[0]);
    good.publish_acknowledged(&devices[0].topic("tags"), r#"{"tags":{"a":1}}"#, 1);
    let grown = bridge.process().resident_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "200 CONNECTs of 240 KB cost {grown} bytes");
    drop(waiting);
}

#[test]
fn long_filters_cost_no_memory() {
    let (mut bridge, devices, _registry) = frugal(51);
    let before = bridge.process().resident_bytes();
    let wires: Vec<Wire> = devices
        .iter()
        .map(|device| {
            let mut wire = Wire::connect(bridge.mqtt(), device);
            for id in 1..=16 {
                let filter = device.topic(&format!("{id}/{}", "x".repeat(60_000)));
                wire.send(&packet::subscribe(id, &[(&filter, 0)]));
                assert_eq!(wire.next_packet().body[2], 0x80);
            }
            wire
        })
        .collect();
    let grown = bridge.process().resident_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "filters of 51 MB cost {grown} bytes");
    drop(wires);
}

#[test]
fn a_device_that_does_not_read_its_answers_is_not_read_either() {
    let (mut bridge, devices, _registry) = frugal(3);
    let mut good = Wire::connect(bridge.mqtt(), &devices[0]);
    let before = bridge.process().resident_bytes();
    let mut deaf = TcpStream::connect(bridge.mqtt()).unwrap();
    deaf.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    deaf.write_all(&Connect::of(&devices[1]).bytes()).unwrap();
    let request = packet::publish(&devices[1].topic("time-sync"), br#"{"messageId":"1"}"#, 0, 0).repeat(1000);
    let mut taken = 0;
    while taken < 512 << 20 {
        match deaf.write(&request) {
            Ok(count) => taken += count,
            Err(_) => break,
        }
    }
    assert!(taken < 512 << 20, "everything was read although no answer was");
    let grown = bridge.process().resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "answers that nobody reads cost {grown} bytes");
    good.publish_acknowledged(&devices[0].topic("tags"), r#"{"tags":{"a":1}}"#, 1);
}
