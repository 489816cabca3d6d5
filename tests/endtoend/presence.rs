//! Presence by the rule that consumers follow, over outages of the queue.

use std::time::Duration;

use crate::command::last_envelope;
use crate::support::{Bridge, Link, Nats, Registration, Registry, Settings, Wire, eventually, packet};

const PATIENCE: Duration = Duration::from_secs(30);

/// Devices of the test. Twice as many come before it and leave in reverse, so that later connections take earlier slots.
const DEVICES: usize = 30;

const SIGSTOP: i32 = 19;

/// Whether consumers take the device for online: the last `online` counts, and an `offline` of the same session ends it.
fn is_online(nats: &Nats, device: &Registration) -> bool {
    let last = |word: &str| last_envelope(nats, &format!("jetlinks.device.product1.{}.{word}", device.id));
    match (last("online"), last("offline")) {
        (None, _) => false,
        (Some(online), Some(offline)) => online["sessionid"] != offline["sessionid"],
        (Some(_), None) => true,
    }
}

fn disconnect(mut wire: Wire) {
    wire.send(&packet::DISCONNECT);
    wire.wait_closed();
}

fn wait_empty(bridge: &Bridge, name: &str) {
    eventually(name, PATIENCE, || (bridge.metric(&format!("jetlinks_bridge_{name}"), &[]) < 1.0).then_some(()));
}

/// A queue that hangs while each device connects, is replaced by its own next connection, and stays.
fn connect_twice_while_the_queue_hangs(leave: impl Fn(Wire)) {
    let mut nats = Nats::start();
    let (registry, devices) = Registry::numbered(3 * DEVICES);
    // Without commands no CONNECT waits for an interest at the server that hangs.
    let bridge = Bridge::start(&Settings::nats(&registry, &nats).text("commands.queue", "none"));
    let earlier: Vec<Wire> = devices[DEVICES..].iter().map(|device| Wire::connect(bridge.mqtt(), device)).collect();
    earlier.into_iter().rev().for_each(disconnect);
    wait_empty(&bridge, "sessions");
    wait_empty(&bridge, "inflight_messages");
    nats.process().signal(SIGSTOP);
    let connect = |device| Wire::connect(bridge.mqtt(), device);
    devices[..DEVICES].iter().map(connect).for_each(leave);
    let wires: Vec<Wire> = devices[..DEVICES].iter().map(connect).collect();
    eventually("the queue is away", PATIENCE, || (bridge.readiness().1["queue"] == "away").then_some(()));
    // What waits in its socket is lost with it, so everything is sent again.
    nats.kill9();
    nats.restart();
    wait_empty(&bridge, "inflight_messages");
    for device in &devices[..DEVICES] {
        assert!(is_online(&nats, device), "{} is connected and counts as offline", device.id);
    }
    wires.into_iter().for_each(disconnect);
    wait_empty(&bridge, "sessions");
    wait_empty(&bridge, "inflight_messages");
    for device in &devices[..DEVICES] {
        assert!(!is_online(&nats, device), "{} has left and counts as online", device.id);
    }
}

#[test]
fn a_device_that_left_and_came_back_while_the_queue_hung_is_online_once_it_is_back() {
    connect_twice_while_the_queue_hangs(disconnect);
}

#[test]
fn a_device_that_was_taken_over_while_the_queue_hung_goes_offline_when_it_leaves() {
    connect_twice_while_the_queue_hangs(std::mem::forget);
}

/// Devices that connect to a replica which is cut off from NATS, leave it or not, and connect to another one.
fn move_while_a_replica_is_cut_off(is_noticed: bool, leave: impl Fn(Wire)) {
    let nats = Nats::start();
    let link = Link::to(nats.address());
    let (registry, devices) = Registry::numbered(DEVICES);
    let start = |url: String| {
        // Without commands no CONNECT waits for an interest at a server that is not reached.
        let settings = Settings::nats(&registry, &nats).text("commands.queue", "none").text("nats.ping_interval", "1s");
        Bridge::start(&settings.toml("nats.servers", &format!("[{url:?}]")))
    };
    let (cut_off, other) = (start(format!("nats://{}", link.address())), start(nats.url()));
    let wait_for = |bridge: &Bridge, state: &str| {
        eventually(&format!("NATS is {state}"), PATIENCE, || {
            let (_, parts) = bridge.readiness();
            ["coordination", "queue"].iter().all(|part| parts[part] == state).then_some(())
        });
    };
    [&cut_off, &other].into_iter().for_each(|bridge| wait_for(bridge, "ok"));
    link.silence();
    devices.iter().map(|device| Wire::connect(cut_off.mqtt(), device)).for_each(leave);
    let wires: Vec<Wire> = devices.iter().map(|device| Wire::connect(other.mqtt(), device)).collect();
    wait_empty(&other, "inflight_messages");
    if is_noticed {
        wait_for(&cut_off, "away");
    }
    link.heal();
    wait_empty(&cut_off, "sessions");
    wait_empty(&cut_off, "inflight_messages");
    let wait_all = |is_right: &dyn Fn(&Registration) -> bool, what: &str| {
        let mut rest: Vec<&Registration> = devices.iter().collect();
        eventually(what, PATIENCE, || {
            rest.retain(|device| !is_right(device));
            rest.is_empty().then_some(())
        });
    };
    wait_all(&|device| is_online(&nats, device), "every device that is connected counts as online");
    // Nothing comes behind that: what was late is stored, and its replica has said so.
    assert!(devices.iter().all(|device| is_online(&nats, device)));
    wires.into_iter().for_each(disconnect);
    wait_empty(&other, "sessions");
    wait_all(&|device| !is_online(&nats, device), "every device that has left counts as offline");
}

#[test]
fn a_device_that_left_a_replica_that_was_cut_off_is_online_on_the_other() {
    move_while_a_replica_is_cut_off(false, disconnect);
}

#[test]
fn a_device_that_left_a_replica_that_had_lost_nats_is_online_on_the_other() {
    move_while_a_replica_is_cut_off(true, disconnect);
}

#[test]
fn a_device_whose_session_a_cut_off_replica_kept_follows_the_session_on_the_other() {
    move_while_a_replica_is_cut_off(false, std::mem::forget);
}

#[test]
fn a_device_whose_session_a_replica_without_nats_kept_follows_the_session_on_the_other() {
    move_while_a_replica_is_cut_off(true, std::mem::forget);
}
