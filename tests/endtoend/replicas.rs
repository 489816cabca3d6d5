//! Several bridges side by side on one NATS.

use std::time::Duration;

use serde_json::{Value, json};

use crate::command::{last_envelope, obey};
use crate::support::{Bridge, Device, Nats, Registry, Settings, Wire, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_command_finds_the_replica_that_holds_the_device() {
    let nats = Nats::start();
    let (registry, devices) = Registry::numbered(4);
    let replicas = [Settings::nats(&registry, &nats), Settings::nats(&registry, &nats)].map(|it| Bridge::start(&it));
    let held: Vec<Device> = devices
        .iter()
        .enumerate()
        .map(|(number, device)| Device::connect(replicas[number % 2].mqtt(), device, obey))
        .collect();
    for device in &devices {
        let subject = format!("jetlinks.command.product1.{}.properties.read", device.id);
        let output = nats.run_cli(&["request", "--timeout", "12s", "--raw", &subject, r#"{"properties":["sn"]}"#]);
        let answer: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        assert_eq!((&answer["deviceid"], &answer["origin"]), (&json!(device.id), &json!("device")), "{answer}");
    }
    drop(held);
}

#[test]
fn a_replica_tells_in_its_heartbeat_how_many_sessions_it_has() {
    let nats = Nats::start();
    let (registry, devices) = Registry::numbered(2);
    let bridge = Bridge::start(&Settings::nats(&registry, &nats).text("presence.heartbeat", "300ms"));
    let _wires: Vec<Wire> = devices.iter().map(|device| Wire::connect(bridge.mqtt(), device)).collect();
    let online =
        eventually("device1 is online", PATIENCE, || last_envelope(&nats, "jetlinks.device.product1.device1.online"));
    let replica = online["replicaid"].as_str().unwrap();
    eventually("the heartbeat counts both devices", PATIENCE, || {
        let beat = last_envelope(&nats, &format!("jetlinks.bridge.replica.{replica}"))?;
        assert_eq!(beat["type"], "org.jetlinks.bridge.replica");
        assert_eq!((&beat["data"]["replicaid"], &beat["data"]["interval_ms"]), (&replica.into(), &300.into()));
        (beat["data"]["sessions"] == 2).then_some(())
    });
}
