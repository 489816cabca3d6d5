//! Presence by the rule that consumers follow, over outages of the queue.

use std::time::Duration;

use crate::command::last_envelope;
use crate::support::{Bridge, Nats, Registration, Registry, Settings, Wire, eventually, packet};

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
