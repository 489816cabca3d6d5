//! Readiness of a replica that is full.

use std::time::Duration;

use crate::support::{Bridge, Registry, Settings, Wire, eventually, packet};

const PATIENCE: Duration = Duration::from_secs(60);

fn disconnect(wires: &mut Vec<Wire>, left: usize) {
    for mut wire in wires.drain(left..) {
        wire.send(&packet::DISCONNECT);
        wire.wait_closed();
    }
}

/// Waits for a status of `/readyz` with this state of the capacity.
fn wait_for(bridge: &Bridge, status: u16, capacity: &str) {
    eventually(&format!("{status} {capacity}"), PATIENCE, || {
        let (answered, body) = bridge.readiness();
        (answered == status && body["capacity"] == capacity).then_some(())
    });
}

#[test]
fn a_full_replica_is_not_ready_until_a_tenth_is_free_where_it_is_told_so() {
    let (registry, devices) = Registry::numbered(20);
    let settings = Settings::stdio(&registry).toml("limits.connections", "20").toml("admin.full_not_ready", "true");
    let bridge = Bridge::start(&settings);
    let part = || bridge.metric("jetlinks_bridge_part_up", &[r#"part="capacity""#]);
    assert_eq!(bridge.metric("jetlinks_bridge_limit_connections", &[]), 20.0);
    let mut wires: Vec<Wire> = devices[..18].iter().map(|device| Wire::connect(bridge.mqtt(), device)).collect();
    wait_for(&bridge, 200, "ok");
    wires.push(Wire::connect(bridge.mqtt(), &devices[18]));
    wait_for(&bridge, 503, "full");
    assert_eq!((part(), bridge.metric("jetlinks_bridge_ready", &[])), (0.0, 0.0));
    let _last = Wire::connect(bridge.mqtt(), &devices[19]);
    disconnect(&mut wires, 16);
    wait_for(&bridge, 200, "ok");
    assert_eq!(part(), 1.0);
}

#[test]
fn a_full_replica_is_ready_where_nothing_else_is_said() {
    let (registry, devices) = Registry::numbered(2);
    let bridge = Bridge::start(&Settings::stdio(&registry).toml("limits.connections", "2"));
    let _wires: Vec<Wire> = devices.iter().map(|device| Wire::connect(bridge.mqtt(), device)).collect();
    eventually("both are there", PATIENCE, || (bridge.metric("jetlinks_bridge_sessions", &[]) == 2.0).then_some(()));
    wait_for(&bridge, 200, "off");
}
