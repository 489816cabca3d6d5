//! Operators who follow a device that is on another replica.

use crate::operators::Stage;
use crate::support::follow::Following;
use crate::support::packet::Packet;
use crate::support::{Connect, Wire, bridge};

#[test]
fn a_device_is_followed_on_whichever_replica_it_is_and_the_others_stop_when_nobody_follows() {
    let stage = Stage::new(2, 2);
    let (device, other) = (&stage.devices[0], &stage.devices[1]);
    let path = format!("/api/trace?device={}&for=10m", device.id);
    let mut trace = Following::begin(stage.admin(0), &path).unwrap();
    let first = trace.next().unwrap();
    let mut replicas: Vec<&str> = first["replicas"].as_array().unwrap().iter().filter_map(|id| id.as_str()).collect();
    replicas.sort_unstable();
    let mut expected: Vec<&str> = stage.replicas.iter().map(|(_, id)| id.as_str()).collect();
    expected.sort_unstable();
    assert_eq!((replicas, &first["missing"]), (expected, &serde_json::json!([])), "{first}");

    let elsewhere = stage.replicas[1].0.mqtt();
    let mut bystander = Wire::connect(elsewhere, other);
    bystander.publish_acknowledged(&other.topic("tags"), r#"{"tags":{}}"#, 1);
    let mut refused = Wire::open(elsewhere);
    refused.send(&Connect { password: Some("0".repeat(32)), ..Connect::of(device) }.bytes());
    assert_eq!(refused.next_packet(), Packet { header: 0x20, body: vec![0, 4] });
    let mut wire = Wire::connect(elsewhere, device);
    wire.publish_acknowledged(&device.topic("properties/report"), r#"{"properties":{"temp":1.50}}"#, 1);
    drop(wire);
    let mut lines = trace.until("disconnect");
    lines.retain(|line| line["event"] != "acknowledged" || line["answer"].is_string());
    let events: Vec<&str> = lines.iter().filter_map(|line| line["event"].as_str()).collect();
    assert_eq!(events, ["refused", "connect", "envelope", "publish", "envelope", "acknowledged", "disconnect"]);
    for line in &lines {
        assert_eq!(
            (line["device"].as_str(), line["replicaId"].as_str()),
            (Some(&*device.id), Some(&*stage.replicas[1].1))
        );
    }

    bridge::wait_for_log(&stage.replicas[1].0, &["another replica follows what happens here"]);
    drop(trace);
    bridge::wait_for_log(&stage.replicas[1].0, &["another replica follows no more"]);
}
