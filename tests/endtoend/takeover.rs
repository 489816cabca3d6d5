//! One device, several replicas: at most one session lives.

use std::time::Duration;

use serde_json::{Value, json};

use crate::command::{last_envelope, obey};
use crate::support::wire::Incoming;
use crate::support::{
    Bridge, Connect, Device, Nats, Registration, Registry, Settings, Stopwatch, Wire, eventually, http, packet,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// The contract's: the older connection is closed within this time, on any replica.
const CLOSED_WITHIN: Duration = Duration::from_millis(500);

/// More would be damped: five takeovers of one device within a minute.
const TAKEOVERS_PER_DEVICE: usize = 5;

fn replicas<const N: usize>(registry: &Registry, nats: &Nats) -> [Bridge; N] {
    start_all([(); N].map(|()| Settings::nats(registry, nats)))
}

fn start_all<const N: usize>(settings: [Settings; N]) -> [Bridge; N] {
    let replicas = settings.map(|settings| Bridge::start(&settings));
    for replica in &replicas {
        eventually("replicas coordinate", PATIENCE, || (replica.readiness().1["coordination"] == "ok").then_some(()));
    }
    replicas
}

fn read(nats: &Nats, device: &Registration) -> Value {
    let subject = format!("jetlinks.command.product1.{}.properties.read", device.id);
    let output = nats.run_cli(&["request", "--timeout", "5s", "--raw", &subject, r#"{"properties":["sn"]}"#]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn lives(wire: &mut Wire) -> bool {
    wire.send_regardless(&packet::PINGREQ);
    loop {
        match wire.next() {
            Incoming::Closed => return false,
            Incoming::Packet(packet) if packet.header == 0xD0 => return true,
            Incoming::Packet(_) => {}
        }
    }
}

#[test]
fn a_device_that_moves_to_another_replica_leaves_no_session_behind_and_takes_its_commands_along() {
    let nats = Nats::start();
    let (registry, devices) = Registry::numbered(1);
    let [first, second] = replicas(&registry, &nats);
    let mut older = Wire::connect(first.mqtt(), &devices[0]);
    let newer = Device::connect(second.mqtt(), &devices[0], obey);
    older.wait_closed();
    let answer = read(&nats, &devices[0]);
    assert_eq!((&answer["origin"], &answer["data"]["success"]), (&json!("device"), &json!(true)), "{answer}");
    let last = last_envelope(&nats, "jetlinks.device.product1.device1.online").unwrap();
    assert_eq!(answer["sessionid"], last["sessionid"]);
    assert!(last_envelope(&nats, "jetlinks.device.product1.device1.offline").is_none(), "a takeover is no departure");
    drop(newer);
}

#[test]
fn a_thousand_takeovers_between_replicas_leave_one_session_each_within_half_a_second() {
    let nats = Nats::start();
    let (registry, devices) = Registry::numbered(1_000 / TAKEOVERS_PER_DEVICE);
    let replicas: [Bridge; 2] = replicas(&registry, &nats);
    let mut held: Vec<Wire> = devices.iter().map(|device| Wire::connect(replicas[0].mqtt(), device)).collect();
    let mut delays = Vec::new();
    for turn in 1..=TAKEOVERS_PER_DEVICE {
        for (device, older) in devices.iter().zip(&mut held) {
            let newer = Wire::connect(replicas[turn % 2].mqtt(), device);
            let accepted = Stopwatch::start();
            older.wait_closed();
            delays.push(accepted.elapsed());
            *older = newer;
        }
    }
    for wire in &mut held {
        wire.send(&packet::PINGREQ);
        assert_eq!(wire.next_packet().header, 0xD0, "the last session of each device lives");
    }
    let sessions: f64 = replicas.iter().map(|replica| replica.metric("jetlinks_bridge_sessions", &[])).sum();
    assert_eq!(sessions as usize, devices.len());
    for device in &devices {
        let subject = format!("jetlinks.device.product1.{}.offline", device.id);
        assert!(last_envelope(&nats, &subject).is_none(), "{} was said to be offline", device.id);
    }
    delays.sort_unstable();
    let (p50, p99) = (delays[delays.len() / 2], delays[delays.len() * 99 / 100]);
    println!("from the new CONNACK to the old connection's end: p50 {p50:?}, p99 {p99:?}");
    assert!(p99 < CLOSED_WITHIN, "p99 {p99:?}");
}

#[test]
fn two_connects_at_the_same_moment_leave_exactly_one_session() {
    let nats = Nats::start();
    let (registry, devices) = Registry::numbered(40);
    let replicas: [Bridge; 2] = replicas(&registry, &nats);
    for device in &devices {
        let mut wires = replicas.each_ref().map(|replica| Wire::open(replica.mqtt()));
        let connect = Connect::of(device).bytes();
        wires.iter_mut().for_each(|wire| wire.send(&connect));
        wires.iter_mut().for_each(|wire| drop(wire.next()));
        eventually("one of two is closed", PATIENCE, || {
            let sessions: f64 = replicas.iter().map(|replica| replica.metric("jetlinks_bridge_sessions", &[])).sum();
            (sessions as usize == 1).then_some(())
        });
        let mut living: Vec<Wire> = wires.into_iter().filter_map(|mut wire| lives(&mut wire).then_some(wire)).collect();
        assert_eq!(living.len(), 1, "{}", device.id);
        living[0].send(&packet::DISCONNECT);
        living[0].wait_closed();
        eventually("the device has left", PATIENCE, || {
            let sessions: f64 = replicas.iter().map(|replica| replica.metric("jetlinks_bridge_sessions", &[])).sum();
            (sessions as usize == 0).then_some(())
        });
    }
}

/// Connects the device on one replica after the other, each time waiting for the end of the session before.
fn move_along<'a>(device: &Registration, replicas: impl IntoIterator<Item = &'a Bridge>) -> Wire {
    let mut replicas = replicas.into_iter();
    let mut held = Wire::connect(replicas.next().unwrap().mqtt(), device);
    for replica in replicas {
        let newer = Wire::connect(replica.mqtt(), device);
        held.wait_closed();
        held = newer;
    }
    held
}

/// Waits until `listener` has heard all that `speaker` said so far; the device is one of nobody else.
fn wait_until_heard(speaker: &Bridge, listener: &Bridge, device: &Registration) {
    drop(move_along(device, [listener, speaker]));
}

fn assert_put_off(replica: &Bridge, device: &Registration) {
    let mut late = Wire::open(replica.mqtt());
    late.send(&Connect::of(device).bytes());
    assert_eq!(late.next_packet().body, [0, 3], "{}", device.id);
    late.wait_closed();
}

#[test]
fn the_sixth_takeover_within_a_minute_is_put_off_on_every_replica_wherever_the_others_were() {
    let nats = Nats::start();
    let (registry, devices) = Registry::numbered(4);
    let [first, second, third] = &replicas(&registry, &nats);
    // From one replica to another, and once within one.
    let mut held = move_along(&devices[0], [first, second, third, third, first, second]);
    wait_until_heard(first, second, &devices[1]);
    wait_until_heard(first, third, &devices[2]);
    for replica in [first, second, third, first] {
        assert_put_off(replica, &devices[0]);
    }
    assert!(lives(&mut held), "the fifth stays");
    drop(move_along(&devices[3], [first, second, third]));
}

#[test]
fn a_refusal_on_one_replica_is_one_on_all() {
    let nats = Nats::start();
    let (registry, devices) = Registry::numbered(2);
    let [first, second] = &replicas(&registry, &nats);
    let held = move_along(&devices[0], [first; TAKEOVERS_PER_DEVICE + 1]);
    assert_put_off(first, &devices[0]);
    wait_until_heard(first, second, &devices[1]);
    drop(held);
    eventually("the session has ended", PATIENCE, || {
        (first.metric("jetlinks_bridge_sessions", &[]) == 0.0).then_some(())
    });
    assert_put_off(second, &devices[0]);
}

#[test]
fn a_device_that_was_taken_over_often_and_has_left_may_come_back_on_another_replica() {
    let nats = Nats::start();
    let (registry, devices) = Registry::numbered(2);
    let [first, second] = &replicas(&registry, &nats);
    let mut held = move_along(&devices[0], [first, second, first, second, first, second]);
    held.send(&packet::DISCONNECT);
    held.wait_closed();
    wait_until_heard(second, first, &devices[1]);
    assert!(lives(&mut Wire::connect(first.mqtt(), &devices[0])));
}

#[test]
fn a_refused_connect_on_another_replica_disturbs_nobody() {
    let nats = Nats::start();
    let (registry, devices) = Registry::numbered(1);
    let [first, second] = replicas(&registry, &nats);
    let mut held = Wire::connect(first.mqtt(), &devices[0]);
    let mut refused = Wire::open(second.mqtt());
    refused.send(&Connect { password: Some("0".repeat(32)), ..Connect::of(&devices[0]) }.bytes());
    assert_eq!(refused.next_packet().body, [0, 4]);
    held.publish_acknowledged(&devices[0].topic("tags"), r#"{"tags":{"a":1}}"#, 1);
}

#[test]
fn a_frozen_replica_delivers_nothing_stale_and_finds_out_that_it_was_superseded() {
    const SIGSTOP: i32 = 19;
    const SIGCONT: i32 = 18;
    let nats = Nats::start();
    let (registry, devices) = Registry::numbered(2);
    let [frozen, other] = replicas(&registry, &nats);
    let mut moved = Wire::connect(frozen.mqtt(), &devices[0]);
    let mut stayed = Wire::connect(frozen.mqtt(), &devices[1]);
    frozen.signal(SIGSTOP);
    let newer = Device::connect(other.mqtt(), &devices[0], obey);
    // The caller gives up while the replica stands still; its command waits there all the same.
    for device in &devices {
        let subject = format!("jetlinks.command.product1.{}.properties.read", device.id);
        nats.run_cli(&["request", "--timeout", "3s", "--raw", &subject, r#"{"properties":["stale"]}"#]);
    }
    frozen.signal(SIGCONT);
    moved.wait_closed();
    // What comes next to the device that stayed is the fresh command, never the stale one.
    let fresh = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            eventually("a fresh command is answered", PATIENCE, || {
                let answer = read(&nats, &devices[1]);
                (answer["origin"] == "device").then_some(answer)
            })
        });
        let command = stayed.next_publish();
        stayed.reply(&command, r#""properties":{"sn":1}"#);
        asking.join().unwrap();
        command
    });
    assert_eq!(fresh.json()["properties"], json!(["sn"]));
    drop(newer);
}

#[test]
fn a_device_that_is_kicked_before_its_connack_has_no_session_afterwards() {
    const SIGSTOP: i32 = 19;
    const SIGCONT: i32 = 18;
    let nats = Nats::start();
    let (registry, devices) = Registry::numbered(1);
    let settings = Settings::nats(&registry, &nats).text("uplink.queue", "stdio");
    let mut bridge = Bridge::start(&settings);
    // Its interest in commands cannot be in place as long as the server stands still.
    nats.process().signal(SIGSTOP);
    let mut wire = Wire::open(bridge.mqtt());
    wire.send(&Connect::of(&devices[0]).bytes());
    eventually("the device is about to get its session", PATIENCE, || {
        let answer = http::request(bridge.admin(), "DELETE", "/api/sessions/device1", "").unwrap();
        (answer.status == 204).then_some(())
    });
    nats.process().signal(SIGCONT);
    wire.read_to_end();
    bridge.expect("device.online", "device1");
    let offline = bridge.expect("device.offline", "device1");
    assert_eq!(offline["data"]["headers"]["cause"], "kicked");
}

#[test]
fn whoever_does_not_know_the_secret_of_the_claims_ends_no_session_and_is_named_once() {
    const SECRET: &str = "secret-of-the-claims";
    let nats = Nats::start();
    let (registry, devices) = Registry::numbered(2);
    let settings = || Settings::nats(&registry, &nats);
    let [first, second, stranger, unsigned] = &start_all([
        settings().text("nats.claim_secret", SECRET),
        settings().text("nats.claim_secret", SECRET),
        settings().text("nats.claim_secret", "secret-of-somebody"),
        settings(),
    ]);
    let mut held = Wire::connect(first.mqtt(), &devices[0]);
    let others: Vec<Wire> =
        [stranger, unsigned, stranger, unsigned].map(|replica| Wire::connect(replica.mqtt(), &devices[0])).into();
    // What the others said before, the two have heard by the time at which one of them gives way to the other.
    for reason in ["wrong_signature", "unsigned"] {
        eventually(&format!("{reason} claims are counted"), PATIENCE, || {
            let ignored = first.metric("jetlinks_bridge_coordination_claims_ignored_total", &[reason]) as usize;
            (ignored >= 2).then_some(())
        });
    }
    drop(move_along(&devices[1], [first, second, first]));
    assert!(lives(&mut held), "only those with the secret end its session");
    for line in ["an unsigned claim is ignored", "a claim with a wrong signature is ignored"] {
        assert_eq!(first.log().matches(line).count(), 1, "{line}");
    }
    drop(others);
}

#[test]
fn replicas_agree_while_the_secret_of_the_claims_is_exchanged() {
    let nats = Nats::start();
    let (registry, devices) = Registry::numbered(1);
    let with = |secrets: &str| Settings::nats(&registry, &nats).toml("nats.claim_secret", secrets);
    let [before, meanwhile] = &start_all([
        with(r#"["secret-of-the-claims", "secret-after-that"]"#),
        with(r#"["secret-after-that", "secret-of-the-claims"]"#),
    ]);
    drop(move_along(&devices[0], [before, meanwhile, before]));
}
