//! Presence by the rule that consumers follow, over outages of the queue.

use std::collections::HashMap;
use std::time::Duration;

use crate::support::stored::{Stored, online, read_stream, read_topic};
use crate::support::wait::within;
use crate::support::{Bridge, Link, LinkedKafka, Nats, Process, Registry, Settings, Wire, eventually, packet};

const PATIENCE: Duration = Duration::from_secs(60);

/// Devices of the test. Twice as many come before it and leave in reverse, so that later connections take earlier slots.
const DEVICES: usize = 30;

const TOPIC: &str = "jetlinks.device";

/// A queue that replicas reach directly or by a link.
trait Queue {
    /// The parts of `/readyz` that a cut of the link concerns.
    const PARTS: &'static [&'static str];

    /// Whether the time of a record may be over while the queue hangs.
    const GIVES_RECORDS_UP: bool;

    fn start() -> Self;

    /// Settings of a replica without commands, so that no CONNECT waits for an interest at a server that hangs.
    fn settings(&self, registry: &Registry, by_link: bool) -> Settings;

    fn link(&self) -> &Link;

    fn process(&self) -> &Process;

    /// Starts it again; what waits in its sockets is lost.
    fn start_again(&mut self);

    /// All that is stored.
    fn read(&self) -> Vec<Stored>;
}

/// JetStream.
struct OnNats {
    nats: Nats,
    link: Link,
}

impl Queue for OnNats {
    const PARTS: &'static [&'static str] = &["coordination", "queue"];
    const GIVES_RECORDS_UP: bool = false;

    fn start() -> Self {
        let nats = Nats::start();
        let link = Link::to(nats.address());
        Self { nats, link }
    }

    fn settings(&self, registry: &Registry, by_link: bool) -> Settings {
        let settings = Settings::nats(registry, &self.nats).text("commands.queue", "none");
        if by_link { settings.toml("nats.servers", &format!("[\"nats://{}\"]", self.link.address())) } else { settings }
    }

    fn link(&self) -> &Link {
        &self.link
    }

    fn process(&self) -> &Process {
        self.nats.process()
    }

    fn start_again(&mut self) {
        self.nats.kill9();
        self.nats.restart();
    }

    fn read(&self) -> Vec<Stored> {
        read_stream(&[self.nats.url()])
    }
}

/// Kafka, and a NATS server by which replicas coordinate.
struct OnKafka {
    kafka: LinkedKafka,
    nats: Nats,
}

impl Queue for OnKafka {
    const PARTS: &'static [&'static str] = &["queue"];
    const GIVES_RECORDS_UP: bool = true;

    fn start() -> Self {
        let kafka = LinkedKafka::start(0);
        for topic in [TOPIC, "jetlinks.rejected"] {
            kafka.kafka().create_topic_with(topic, 4, &[("message.timestamp.type", "LogAppendTime")]);
        }
        Self { kafka, nats: Nats::start() }
    }

    fn settings(&self, registry: &Registry, by_link: bool) -> Settings {
        let settings = Settings::kafka(registry, self.kafka.kafka());
        let settings = settings.toml("nats.servers", &format!("[{:?}]", self.nats.url()));
        if by_link { settings.text("kafka.brokers", &self.kafka.link().address().to_string()) } else { settings }
    }

    fn link(&self) -> &Link {
        self.kafka.link()
    }

    fn process(&self) -> &Process {
        self.kafka.kafka().process()
    }

    fn start_again(&mut self) {
        self.kafka.kafka_mut().restart();
    }

    fn read(&self) -> Vec<Stored> {
        read_topic(&self.kafka.kafka().client(), TOPIC)
    }
}

fn disconnect(mut wire: Wire) {
    // The bridge may have closed the connection before, for want of an acknowledgement.
    wire.send_regardless(&packet::DISCONNECT);
    wire.wait_closed();
}

fn wait_empty(bridge: &Bridge, name: &str) {
    eventually(name, PATIENCE, || (bridge.metric(&format!("jetlinks_bridge_{name}"), &[]) < 1.0).then_some(()));
}

/// Waits until consumers believe of each device what is true, and shows that nothing comes behind that: every session
/// that is there is the one in which they take its device for online, and no other device is online.
fn assert_right(queue: &impl Queue, bridges: &[&Bridge]) {
    let look = || {
        let living = bridges.iter().flat_map(|bridge| bridge.sessions()).collect::<HashMap<_, _>>();
        (online(&queue.read()), living)
    };
    within(PATIENCE, || {
        let (believed, living) = look();
        (believed == living).then_some(())
    });
    bridges.iter().for_each(|bridge| wait_empty(bridge, "inflight_messages"));
    let (believed, living) = look();
    assert_eq!(believed, living, "believed and true sessions");
}

/// How a queue comes back that hung.
enum Return {
    /// It goes on, and takes what waits in its sockets.
    Wakes,
    /// It is started again.
    StartsAgain,
}

/// A queue that hangs while each device connects, is replaced by its own next connection, and stays.
fn connect_twice_while_the_queue_hangs<Q: Queue>(comes_back: Return, leave: impl Fn(Wire)) {
    let mut queue = Q::start();
    let (registry, devices) = Registry::numbered(3 * DEVICES);
    let bridge = Bridge::start(&queue.settings(&registry, false));
    let earlier: Vec<Wire> = devices[DEVICES..].iter().map(|device| Wire::connect(bridge.mqtt(), device)).collect();
    earlier.into_iter().rev().for_each(disconnect);
    wait_empty(&bridge, "sessions");
    wait_empty(&bridge, "inflight_messages");
    queue.process().signal(libc::SIGSTOP);
    let connect = |device| Wire::connect(bridge.mqtt(), device);
    let devices = &devices[..DEVICES];
    devices.iter().map(connect).for_each(leave);
    let wires: Vec<Wire> = devices.iter().map(connect).collect();
    eventually("the queue is away", PATIENCE, || (bridge.readiness().1["queue"] == "away").then_some(()));
    if Q::GIVES_RECORDS_UP {
        // That of earlier sessions is over, while that of later ones still waits.
        let failed = || bridge.metric("jetlinks_bridge_queue_records_total", &["failed"]);
        eventually("records are given up", PATIENCE, || (failed() > 0.0).then_some(()));
    }
    match comes_back {
        Return::Wakes => queue.process().signal(libc::SIGCONT),
        Return::StartsAgain => queue.start_again(),
    }
    // A session that hears that an earlier one was late says once more that it is online.
    assert_right(&queue, &[&bridge]);
    wires.into_iter().for_each(disconnect);
    wait_empty(&bridge, "sessions");
    assert_right(&queue, &[&bridge]);
}

#[test]
fn a_device_that_left_and_came_back_while_nats_hung_is_online_once_it_has_started_again() {
    connect_twice_while_the_queue_hangs::<OnNats>(Return::StartsAgain, disconnect);
}

#[test]
fn a_device_that_was_taken_over_while_nats_hung_goes_offline_when_it_leaves() {
    connect_twice_while_the_queue_hangs::<OnNats>(Return::StartsAgain, std::mem::forget);
}

#[test]
fn a_device_that_left_and_came_back_while_kafka_hung_is_online_once_it_wakes() {
    connect_twice_while_the_queue_hangs::<OnKafka>(Return::Wakes, disconnect);
}

#[test]
fn a_device_that_left_and_came_back_while_kafka_hung_is_online_once_it_has_started_again() {
    connect_twice_while_the_queue_hangs::<OnKafka>(Return::StartsAgain, disconnect);
}

#[test]
fn a_device_that_was_taken_over_while_kafka_hung_goes_offline_when_it_leaves() {
    connect_twice_while_the_queue_hangs::<OnKafka>(Return::Wakes, std::mem::forget);
}

/// Devices that connect to a replica which is cut off from the queue, leave it or not, and connect to another one.
fn move_while_a_replica_is_cut_off<Q: Queue>(is_noticed: bool, leave: impl Fn(Wire)) {
    let queue = Q::start();
    let (registry, devices) = Registry::numbered(DEVICES);
    let start = |by_link| Bridge::start(&queue.settings(&registry, by_link).text("nats.ping_interval", "1s"));
    let (cut_off, other) = (start(true), start(false));
    let wait_for = |bridge: &Bridge, state: &str| {
        eventually(&format!("the queue is {state}"), PATIENCE, || {
            let (_, parts) = bridge.readiness();
            Q::PARTS.iter().all(|part| parts[part] == state).then_some(())
        });
    };
    [&cut_off, &other].into_iter().for_each(|bridge| wait_for(bridge, "ok"));
    queue.link().silence();
    devices.iter().map(|device| Wire::connect(cut_off.mqtt(), device)).for_each(leave);
    let wires: Vec<Wire> = devices.iter().map(|device| Wire::connect(other.mqtt(), device)).collect();
    wait_empty(&other, "inflight_messages");
    if is_noticed {
        wait_for(&cut_off, "away");
    }
    queue.link().heal();
    wait_empty(&cut_off, "sessions");
    wait_empty(&cut_off, "inflight_messages");
    assert_right(&queue, &[&cut_off, &other]);
    assert_eq!(other.sessions().len(), DEVICES, "nobody loses the session on the other one");
    wires.into_iter().for_each(disconnect);
    wait_empty(&other, "sessions");
    assert_right(&queue, &[&cut_off, &other]);
}

#[test]
fn a_device_that_left_a_replica_that_was_cut_off_from_nats_is_online_on_the_other() {
    move_while_a_replica_is_cut_off::<OnNats>(false, disconnect);
}

#[test]
fn a_device_that_left_a_replica_that_had_lost_nats_is_online_on_the_other() {
    move_while_a_replica_is_cut_off::<OnNats>(true, disconnect);
}

#[test]
fn a_device_whose_session_a_replica_cut_off_from_nats_kept_follows_the_session_on_the_other() {
    move_while_a_replica_is_cut_off::<OnNats>(false, std::mem::forget);
}

#[test]
fn a_device_whose_session_a_replica_without_nats_kept_follows_the_session_on_the_other() {
    move_while_a_replica_is_cut_off::<OnNats>(true, std::mem::forget);
}

#[test]
fn a_device_that_left_a_replica_that_was_cut_off_from_kafka_is_online_on_the_other() {
    move_while_a_replica_is_cut_off::<OnKafka>(false, disconnect);
}

#[test]
fn a_device_that_left_a_replica_that_had_lost_kafka_is_online_on_the_other() {
    move_while_a_replica_is_cut_off::<OnKafka>(true, disconnect);
}

#[test]
fn a_device_that_was_taken_over_from_a_replica_that_had_lost_kafka_is_online_on_the_other() {
    move_while_a_replica_is_cut_off::<OnKafka>(true, std::mem::forget);
}
