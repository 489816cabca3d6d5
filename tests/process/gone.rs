//! Devices that leave while they wait for their turn.

use std::time::Duration;

use crate::support::{Bridge, Connect, Registry, Settings, Wire, eventually, packet};

const PATIENCE: Duration = Duration::from_secs(60);

/// A bridge in which one connection a second has its turn, with so many in front that say nothing.
fn crowded(registry: &Registry, silent: usize) -> (Bridge, Vec<Wire>) {
    let settings = Settings::stdio(registry).toml("runtime.workers", "1").toml("limits.connect_rate", "1");
    let bridge = Bridge::start(&settings.text("mqtt.connect_timeout", "60s"));
    let silent = (0..silent).map(|_| Wire::open(bridge.mqtt())).collect();
    eventually("some wait", PATIENCE, || {
        (bridge.metric("jetlinks_bridge_connections_waiting", &[]) > 0.0).then_some(())
    });
    (bridge, silent)
}

fn connects(bridge: &Bridge, outcome: &str) -> f64 {
    bridge.metric("jetlinks_bridge_connects_total", &[outcome])
}

#[test]
fn devices_that_left_before_their_turn_take_none_and_are_not_looked_up() {
    const LEFT: usize = 20;
    /// Turns that those in front take: time for the others to leave.
    const SILENT: usize = 8;
    let (registry, devices) = Registry::numbered(LEFT + 1);
    let (bridge, silent) = crowded(&registry, SILENT);
    for device in &devices[..LEFT] {
        let mut wire = Wire::open(bridge.mqtt());
        wire.send(&Connect::of(device).bytes());
    }
    let _patient = Wire::connect(bridge.mqtt(), &devices[LEFT]);
    assert_eq!((connects(&bridge, "gone"), connects(&bridge, "accepted")), (LEFT as f64, 1.0));
    assert_eq!(bridge.metric("jetlinks_bridge_registry_lookups_total", &[]), 1.0);
    let turns = bridge.metric("jetlinks_bridge_accept_wait_seconds_count", &[]);
    assert_eq!(turns, (silent.len() + 1) as f64, "who has left takes no turn");
}

#[test]
fn a_device_that_sends_all_it_has_and_leaves_without_an_answer_is_heard() {
    let (registry, devices) = Registry::numbered(1);
    let (mut bridge, _silent) = crowded(&registry, 4);
    let device = &devices[0];
    let publish = packet::publish(&device.topic("properties/report"), br#"{"properties":{"a":1}}"#, 0, 0);
    let mut wire = Wire::open(bridge.mqtt());
    wire.send(&[Connect::of(device).bytes(), publish, packet::DISCONNECT.to_vec()].concat());
    drop(wire);
    bridge.expect("device.online", &device.id);
    bridge.expect("device.properties.report", &device.id);
    bridge.expect("device.offline", &device.id);
    assert_eq!(connects(&bridge, "gone"), 0.0);
}

#[test]
fn a_connection_that_closes_without_a_word_is_gone_and_not_malformed() {
    let (registry, _) = Registry::numbered(1);
    let bridge = Bridge::start(&Settings::stdio(&registry));
    drop(Wire::open(bridge.mqtt()));
    eventually("it is gone", PATIENCE, || (connects(&bridge, "gone") == 1.0).then_some(()));
    assert_eq!(connects(&bridge, "malformed"), 0.0);
}
