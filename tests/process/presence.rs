//! How sessions end, and what is said about it.

use std::time::Duration;

use crate::Stage;
use crate::support::packet;
use crate::support::wire::Incoming;
use crate::support::{Connect, Registration, Wire, eventually, http};

const WILL: &str = r#"{"data":"gone"}"#;

/// device1 with a will, connected, and its `online`.
pub(crate) fn connect_with_will(
    stage: &mut Stage,
    change: impl FnOnce(Connect) -> Connect,
) -> (Wire, serde_json::Value) {
    let topic = stage.device1.topic("event/will");
    let connect = change(Connect::of(&stage.device1).will(&topic, WILL));
    let wire = Wire::connect_as(stage.bridge.mqtt(), &connect);
    let online = stage.bridge.expect("device.online", "device1");
    (wire, online)
}

fn expect_offline(stage: &mut Stage, online: &serde_json::Value, cause: &str) -> serde_json::Value {
    let offline = stage.bridge.expect("device.offline", "device1");
    assert_eq!(offline["data"]["headers"]["cause"], cause, "{offline}");
    assert_eq!(offline["data"]["messageType"], "OFFLINE");
    assert_eq!(offline["origin"], "bridge");
    assert_eq!(offline["sessionid"], online["sessionid"]);
    assert_eq!(offline["replicaid"], online["replicaid"]);
    offline
}

/// Takes the will and the `offline` off stdout.
pub(crate) fn expect_will_and_offline(stage: &mut Stage, online: &serde_json::Value, cause: &str) -> serde_json::Value {
    let will = stage.bridge.expect("device.event", "device1");
    assert_eq!((will["subject"].as_str(), will["data"]["data"].as_str()), (Some("will"), Some("gone")));
    expect_offline(stage, online, cause)
}

#[test]
fn a_device_that_says_goodbye_is_disconnected_and_its_will_is_not_published() {
    let mut stage = Stage::new();
    let (mut wire, online) = connect_with_will(&mut stage, |connect| connect);
    wire.send(&packet::DISCONNECT);
    wire.wait_closed();
    expect_offline(&mut stage, &online, "disconnected");
    stage.assert_nothing_written();
}

#[test]
fn a_device_whose_connection_breaks_is_lost_and_its_will_is_published() {
    let mut stage = Stage::new();
    let (wire, online) = connect_with_will(&mut stage, |connect| connect);
    drop(wire);
    expect_will_and_offline(&mut stage, &online, "connection_lost");
    stage.assert_nothing_written();
}

#[test]
fn a_will_on_a_foreign_topic_is_not_published() {
    let mut stage = Stage::new();
    let topic = stage.device2.topic("event/will");
    let connect = Connect::of(&stage.device1).will(&topic, WILL);
    let wire = Wire::connect_as(stage.bridge.mqtt(), &connect);
    let online = stage.bridge.expect("device.online", "device1");
    drop(wire);
    expect_offline(&mut stage, &online, "connection_lost");
    stage.assert_nothing_written();
}

#[test]
fn a_will_that_is_no_json_is_rejected_like_any_message() {
    let mut stage = Stage::new();
    let connect = Connect::of(&stage.device1).will(&stage.device1.topic("event/will"), "{");
    let wire = Wire::connect_as(stage.bridge.mqtt(), &connect);
    let online = stage.bridge.expect("device.online", "device1");
    drop(wire);
    let rejected = stage.bridge.expect("bridge.rejected", "device1");
    assert_eq!(rejected["data"]["reason"], "undecodable");
    expect_offline(&mut stage, &online, "connection_lost");
}

#[test]
fn a_packet_that_breaks_the_protocol_ends_the_session_as_such() {
    let stage = Stage::new();
    let topic = |suffix: &str| stage.device1.topic(suffix);
    let cases = [
        ("a second CONNECT", Connect::of(&stage.device1).bytes()),
        ("a reserved type", vec![0xF0, 0]),
        ("QoS 3", packet::packet(0x36, &packet::field(topic("tags").as_bytes()))),
        ("a wildcard in a topic name", packet::publish(&topic("event/#"), b"{}", 0, 0)),
        ("packet id 0", packet::publish(&topic("tags"), b"{}", 1, 0)),
        ("a length of five bytes", vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]),
    ];
    for (what, bytes) in cases {
        let mut stage = Stage::new();
        let (mut wire, online) = connect_with_will(&mut stage, |connect| connect);
        wire.send(&bytes);
        assert_eq!(wire.next(), Incoming::Closed, "{what}");
        expect_will_and_offline(&mut stage, &online, "protocol_error");
    }
}

#[test]
fn a_device_that_the_file_loses_or_changes_loses_its_session() {
    let device = Registration::new("device1");
    let rekeyed = Registration { secure_key: "another".to_owned(), ..device.clone() };
    for change in [Some(rekeyed), Some(device.disabled()), None] {
        let mut stage = Stage::new();
        let (mut wire, online) = connect_with_will(&mut stage, |connect| connect);
        let mut other = stage.connect(&stage.device2.clone());
        let devices = change.into_iter().chain([stage.device2.clone()]);
        stage.registry.rewrite(&Vec::from_iter(devices));
        wire.wait_closed();
        expect_offline(&mut stage, &online, "kicked");
        // Who is still as before stays.
        other.publish_acknowledged(&stage.device2.topic("tags"), r#"{"tags":{"a":1}}"#, 1);
        stage.bridge.expect("device.tags", "device2");
    }
}

#[test]
fn a_broken_registry_file_leaves_the_sessions_alone() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    let good = std::fs::read_to_string(stage.registry.path()).unwrap();
    std::fs::write(stage.registry.path(), "[[device]]\nid =").unwrap();
    crate::support::bridge::wait_for_log(&stage.bridge, &["devices.toml"]);
    wire.publish_acknowledged(&stage.device1.topic("tags"), r#"{"tags":{"a":1}}"#, 1);
    stage.bridge.expect("device.tags", "device1");
    std::fs::write(stage.registry.path(), good).unwrap();
    stage.assert_nothing_written();
}

#[test]
fn the_admin_page_lists_sessions_and_ends_them() {
    let mut stage = Stage::new();
    let (mut wire, online) = connect_with_will(&mut stage, |connect| connect);
    let admin = stage.bridge.admin();
    let list = http::get(admin, "/api/sessions").unwrap();
    assert_eq!(list.status, 200);
    assert!(list.body.contains("device1") && !list.body.contains("device2"), "{}", list.body);
    let one = http::get(admin, "/api/sessions/device1").unwrap();
    assert_eq!(one.status, 200);
    assert!(one.body.contains(online["sessionid"].as_str().unwrap()), "{}", one.body);
    assert!(!one.body.contains(&stage.device1.secure_key), "{}", one.body);
    assert_eq!(http::get(admin, "/api/sessions/device2").unwrap().status, 404);

    let kicked = http::request(admin, "DELETE", "/api/sessions/device1", "").unwrap();
    assert!((200..300).contains(&kicked.status), "{kicked:?}");
    wire.wait_closed();
    expect_offline(&mut stage, &online, "kicked");
    eventually("the session is gone from the list", Duration::from_secs(60), || {
        (http::get(admin, "/api/sessions/device1").unwrap().status == 404).then_some(())
    });
    assert_eq!(http::request(admin, "DELETE", "/api/sessions/device1", "").unwrap().status, 404);
}
