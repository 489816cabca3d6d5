//! Presence as the example programs tell it, of devices that are there: takeovers, a killed replica, a killed broker.

use std::collections::HashMap;

use crate::program::{Language, PATIENCE, Program};
use crate::support::{Bridge, Kafka, Nats, Registration, Registry, Settings, Wire, eventually, packet};

const TOPIC: &str = "jetlinks.device";

/// Three of them are more than the bridge takes to come back to a queue, on a busy machine too.
const HEARTBEAT: &str = "3s";

/// The states of each device in the order in which a program printed them.
fn stories(lines: &[String]) -> HashMap<&str, Vec<&str>> {
    let mut stories = HashMap::<_, Vec<_>>::new();
    for line in lines {
        let (device, state) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
        stories.entry(device).or_default().push(state);
    }
    stories
}

/// Waits until each program has told so many changes of each device.
fn wait_for(programs: &mut [Program], counts: &[(&str, usize)]) {
    for program in programs {
        program.wait_for(&format!("{counts:?}"), |lines| {
            let stories = stories(lines);
            counts.iter().all(|(device, count)| stories.get(device).is_some_and(|story| story.len() >= *count))
        });
    }
}

fn disconnect(mut wire: Wire) {
    wire.send(&packet::DISCONNECT);
    wire.wait_closed();
}

#[test]
fn presence_is_right_over_takeovers_a_killed_replica_a_killed_broker_and_children() {
    let mut kafka = Kafka::start_with_topics(&[TOPIC, "jetlinks.rejected"], 3);
    let nats = Nats::start();
    let [device1, device2, gateway] = ["device1", "device2", "gw1"].map(Registration::new);
    let child = Registration::child("child1", "gw1");
    let registry = Registry::new(&[device1.clone(), device2.clone(), gateway.clone(), child]);
    let settings = Settings::kafka(&registry, &kafka)
        .toml("nats.servers", &format!("[{:?}]", nats.url()))
        .text("presence.heartbeat", HEARTBEAT);
    let [mut first, second] = [(); 2].map(|()| Bridge::start(&settings));
    let mut programs = Program::start_all("presence", &[], &[("KAFKA_BROKERS", &kafka.brokers())]);

    let mut older = Wire::connect(first.mqtt(), &device1);
    let second_device = Wire::connect(second.mqtt(), &device2);
    let mut speaker = Wire::connect(first.mqtt(), &gateway);
    let come = gateway.topic("child/child77/connected");
    speaker.publish_acknowledged(&come, "{}", 1);
    let all = ["device1", "device2", "gw1", "child1", "child77"];
    wait_for(&mut programs, &all.map(|device| (device, 1)));

    let newer = Wire::connect(second.mqtt(), &device1);
    older.wait_closed();
    first.process().kill9();
    let gone = ["gw1", "child1", "child77"];
    wait_for(&mut programs, &gone.map(|device| (device, 2)));

    // Some three beats are missing then: nobody is gone for that.
    kafka.kill9();
    let queue_is = |state: &str| {
        eventually(&format!("the queue is {state}"), PATIENCE, || {
            (second.readiness().1["queue"] == state).then_some(())
        });
    };
    queue_is("away");
    kafka.restart();
    queue_is("ok");
    let mut speaker = Wire::connect(second.mqtt(), &gateway);
    wait_for(&mut programs, &[("gw1", 3), ("child1", 3)]);
    speaker.publish_acknowledged(&come, "{}", 1);
    wait_for(&mut programs, &[("child77", 3)]);
    disconnect(speaker);
    wait_for(&mut programs, &gone.map(|device| (device, 4)));
    disconnect(second_device);
    wait_for(&mut programs, &[("device2", 2)]);

    let twice = vec!["online", "offline", "online", "offline"];
    let expected = [
        ("device1", vec!["online"]),
        ("device2", vec!["online", "offline"]),
        ("gw1", twice.clone()),
        ("child1", twice.clone()),
        ("child77", twice),
    ];
    for program in programs {
        assert_eq!(stories(&program.lines()), HashMap::from(expected.clone()), "{:?}", program.language);
    }
    disconnect(newer);
}

#[test]
fn presence_from_jetstream_is_right_over_a_killed_replica_and_a_killed_server() {
    let mut nats = Nats::start();
    let [device1, device2, gateway] = ["device1", "device2", "gw1"].map(Registration::new);
    let child = Registration::child("child1", "gw1");
    let registry = Registry::new(&[device1.clone(), device2.clone(), gateway.clone(), child]);
    let settings = Settings::nats(&registry, &nats).text("presence.heartbeat", HEARTBEAT);
    let [mut first, second] = [(); 2].map(|()| Bridge::start(&settings));
    let program = Program::start(Language::Python, "presence_jetstream", &[], &[("NATS_URL", &nats.url())]);
    let mut programs = [program];

    let _first_device = Wire::connect(first.mqtt(), &device1);
    let second_device = Wire::connect(second.mqtt(), &device2);
    let mut speaker = Wire::connect(second.mqtt(), &gateway);
    speaker.publish_acknowledged(&gateway.topic("child/child77/connected"), "{}", 1);
    wait_for(&mut programs, &["device1", "device2", "gw1", "child1", "child77"].map(|device| (device, 1)));
    first.process().kill9();
    wait_for(&mut programs, &[("device1", 2)]);
    nats.kill9();
    nats.restart();
    disconnect(speaker);
    wait_for(&mut programs, &["gw1", "child1", "child77"].map(|device| (device, 2)));
    disconnect(second_device);
    wait_for(&mut programs, &[("device2", 2)]);
    let [program] = programs;
    assert!(stories(&program.lines()).values().all(|story| *story == ["online", "offline"]), "{:?}", program.lines());
}
