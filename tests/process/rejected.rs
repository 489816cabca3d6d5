//! Messages that cannot be decoded, and messages on topics of other devices.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::Stage;
use crate::support::packet::{self, Packet};
use crate::support::{Connect, Version, Wire, bridge, http};

/// Takes the next line as a rejected envelope of device1 with that reason.
fn expect_rejected(stage: &mut Stage, reason: &str) -> Value {
    let envelope = stage.bridge.next_envelope();
    assert_eq!(envelope["type"], "org.jetlinks.bridge.rejected", "{envelope}");
    assert_eq!(envelope["origin"], "bridge", "{envelope}");
    assert_eq!(envelope["data"]["reason"], reason, "{envelope}");
    assert!(envelope["data"]["detail"].is_string(), "{envelope}");
    envelope
}

#[test]
fn a_body_that_is_no_json_is_acknowledged_and_rejected_once() {
    for payload in ["", "{", "[]", "null", "{}x", r#"{"properties":1}"#, r#"{"timestamp":{}}"#, "\u{fffd}"] {
        let mut stage = Stage::new();
        let mut wire = stage.connect1();
        let topic = stage.device1.topic("properties/report");
        wire.publish_acknowledged(&topic, payload, 5);
        let envelope = expect_rejected(&mut stage, "undecodable");
        assert_eq!(envelope["deviceid"], "device1");
        assert_eq!(envelope["data"]["topic"], topic);
        let kept = STANDARD.decode(envelope["data"]["payload_base64"].as_str().unwrap()).unwrap();
        assert_eq!(kept, payload.as_bytes());
        stage.assert_nothing_written();
    }
}

#[test]
fn a_body_that_is_no_utf_8_keeps_its_bytes() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    let payload = b"{\"properties\":{\"a\":\"\xFF\xFE\"}}";
    wire.send(&packet::publish(&stage.device1.topic("properties/report"), payload, 2, 9));
    assert_eq!(wire.next_packet(), Packet::answer(packet::PUBREC, 9));
    let envelope = expect_rejected(&mut stage, "undecodable");
    assert_eq!(STANDARD.decode(envelope["data"]["payload_base64"].as_str().unwrap()).unwrap(), payload);
}

#[test]
fn an_unknown_topic_of_the_device_is_acknowledged_and_rejected() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    // The last one goes down only.
    for (id, suffix) in
        ["nonsense", "properties", "event/a/b", "Properties/report", "properties/read"].iter().enumerate()
    {
        let id = u16::try_from(id + 1).unwrap();
        wire.publish_acknowledged(&stage.device1.topic(suffix), "{}", id);
        let envelope = expect_rejected(&mut stage, "unknown_topic");
        assert_eq!(envelope["data"]["topic"], stage.device1.topic(suffix));
    }
}

#[test]
fn a_packet_up_to_four_times_the_limit_is_acknowledged_and_rejected_without_its_payload() {
    let mut stage = Stage::with(|settings| settings.text("limits.packet_bytes", "1KiB"));
    let mut wire = stage.connect1();
    let topic = stage.device1.topic("properties/report");
    let sized = |bytes: usize| {
        // Topic, its length, packet id and the length itself are the rest of the packet.
        let rest = topic.len() + 2 + 2 + 3;
        let frame = r#"{"properties":{"a":""}}"#.len();
        format!(r#"{{"properties":{{"a":"{}"}}}}"#, "x".repeat(bytes - rest - frame))
    };
    wire.publish_acknowledged(&topic, &sized(1024), 1);
    stage.bridge.expect("device.properties.report", "device1");
    for (id, bytes) in [(2, 1030), (3, 4096)] {
        wire.publish_acknowledged(&topic, &sized(bytes), id);
        let envelope = expect_rejected(&mut stage, "too_large");
        assert_eq!(envelope["data"].get("payload_base64").and_then(Value::as_str).unwrap_or_default(), "");
    }

    wire.send_regardless(&packet::publish(&topic, sized(4110).as_bytes(), 1, 4));
    wire.wait_closed();
    stage.bridge.expect("device.offline", "device1");
    stage.assert_nothing_written();
}

#[test]
fn a_topic_of_512_bytes_is_taken_and_a_longer_one_is_too_large() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    let prefix = stage.device1.topic("event/");
    let at_limit = format!("{prefix}{}", "e".repeat(512 - prefix.len()));
    wire.publish_acknowledged(&at_limit, r#"{"data":1}"#, 1);
    stage.bridge.expect("device.event", "device1");
    wire.publish_acknowledged(&format!("{at_limit}e"), r#"{"data":1}"#, 2);
    expect_rejected(&mut stage, "too_large");
}

#[test]
fn a_topic_of_somebody_else_closes_the_connection_and_is_logged_and_counted() {
    let other_device = "/product1/device2/properties/report";
    let mut cases: Vec<(Version, u8, &str)> = Vec::new();
    for version in Version::ALL {
        cases.extend((0..3).map(|qos| (version, qos, other_device)));
    }
    for topic in
        ["/product2/device1/properties/report", "/properties", "/", "//device1/x", "/product1//properties/report"]
    {
        cases.push((Version::V311, 1, topic));
    }
    for (version, qos, topic) in cases {
        let mut stage = Stage::new();
        let mut wire = Wire::connect_as(stage.bridge.mqtt(), &Connect::of(&stage.device1).version(version));
        stage.bridge.expect("device.online", "device1");
        wire.publish(topic, r#"{"properties":{"a":1}}"#, qos, 1);
        wire.wait_closed();
        let offline = stage.bridge.expect("device.offline", "device1");
        assert_eq!(offline["data"]["headers"]["cause"], "protocol_error", "{topic}");
        stage.assert_nothing_written();
        bridge::wait_for_log(&stage.bridge, &["WARN", "device1", topic]);
        let page = http::get(stage.bridge.admin(), "/metrics").unwrap().body;
        let counted = |line: &str| line.contains("foreign") && line.ends_with(" 1");
        assert!(page.lines().any(counted), "{topic}: {page}");
    }
}

#[test]
fn the_log_names_a_product_whose_messages_are_rejected_once_a_minute_and_is_silent_about_good_ones() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    let topic = stage.device1.topic("properties/report");
    (1..=20).for_each(|id| wire.publish_acknowledged(&topic, r#"{"properties":{"a":1}}"#, id));
    (21..=60).for_each(|id| wire.publish_acknowledged(&topic, r#"{"properties":}"#, id));
    let told = ["WARN", "messages of a product are rejected", "product=product1", "reason=\"undecodable\"", "device1"];
    let line = bridge::wait_for_log(&stage.bridge, &told);
    let count = line.split("count=").nth(1).and_then(|rest| rest.split(' ').next()).expect("it has a count");
    assert!((1..=40).contains(&count.parse::<u64>().unwrap()), "{line}");
    assert_eq!(stage.bridge.log().matches(told[1]).count(), 1);
}
