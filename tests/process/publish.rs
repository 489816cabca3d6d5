//! PUBLISH of a device, and its acknowledgement after the queue's.

use std::io::Read;
use std::time::Duration;

use serde_json::json;

use crate::Stage;
use crate::support::packet::{self, Packet};
use crate::support::wire::Incoming;
use crate::support::{Bridge, Connect, Registry, Settings, Version, Wire};

const REPORT: &str = r#"{"messageId":"m1","timestamp":1601196762389,"properties":{"temp":36.8}}"#;

#[test]
fn a_report_becomes_the_same_envelope_at_every_qos_and_version() {
    for version in Version::ALL {
        let mut stage = Stage::new();
        let topic = stage.device1.topic("properties/report");
        let mut wire = Wire::connect_as(stage.bridge.mqtt(), &Connect::of(&stage.device1).version(version));
        let online = stage.bridge.expect("device.online", "device1");

        wire.publish(&topic, REPORT, 0, 0);
        wire.publish(&topic, REPORT, 1, 10);
        assert_eq!(wire.next_packet(), Packet::answer(packet::PUBACK, 10), "{version:?}");
        wire.publish(&topic, REPORT, 2, 11);
        assert_eq!(wire.next_packet(), Packet::answer(packet::PUBREC, 11), "{version:?}");
        wire.send(&packet::pubrel(11));
        assert_eq!(wire.next_packet(), Packet::answer(packet::PUBCOMP, 11), "{version:?}");

        let mut ids = Vec::new();
        for qos in 0..3 {
            let mut envelope = stage.bridge.expect("device.properties.report", "device1");
            let members = envelope.as_object_mut().unwrap();
            ids.push(members.remove("id").unwrap());
            assert!(members.remove("recordedtime").is_some_and(|time| time.as_str().unwrap().ends_with('Z')));
            let expected = json!({
                "specversion": "1.0",
                "source": "/product1/device1",
                "type": "org.jetlinks.device.properties.report",
                "time": "2020-09-27T08:52:42.389Z",
                "datacontenttype": "application/json",
                "origin": "device",
                "productid": "product1",
                "deviceid": "device1",
                "sessionid": online["sessionid"],
                "data": {
                    "messageType": "REPORT_PROPERTY",
                    "messageId": "m1",
                    "deviceId": "device1",
                    "timestamp": 1_601_196_762_389_u64,
                    "properties": {"temp": 36.8},
                },
            });
            assert_eq!(envelope, expected, "{version:?} QoS {qos}");
        }
        ids.dedup();
        assert_eq!(ids.len(), 3, "every message has its own id");
    }
}

#[test]
fn a_message_of_qos_2_is_written_once_however_often_it_is_sent() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    let topic = stage.device1.topic("properties/report");
    let first = packet::publish(&topic, REPORT.as_bytes(), 2, 7);
    let mut again = first.clone();
    again[0] |= 0x08;
    for bytes in [&first, &again, &again] {
        wire.send(bytes);
        assert_eq!(wire.next_packet(), Packet::answer(packet::PUBREC, 7));
    }
    for _ in 0..2 {
        wire.send(&packet::pubrel(7));
        assert_eq!(wire.next_packet(), Packet::answer(packet::PUBCOMP, 7));
    }
    stage.bridge.expect("device.properties.report", "device1");
    // The id is free again.
    wire.send(&packet::publish(&stage.device1.topic("event/e1"), br#"{"data":1}"#, 2, 7));
    assert_eq!(wire.next_packet(), Packet::answer(packet::PUBREC, 7));
    stage.bridge.expect("device.event", "device1");
}

#[test]
fn many_messages_at_once_are_acknowledged_and_written_in_the_order_sent() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    let topic = stage.device1.topic("properties/report");
    let all: Vec<u8> = (1..=500)
        .flat_map(|id| packet::publish(&topic, format!(r#"{{"properties":{{"n":{id}}}}}"#).as_bytes(), 1, id))
        .collect();
    wire.send(&all);
    for id in 1..=500 {
        assert_eq!(wire.next_packet(), Packet::answer(packet::PUBACK, id));
    }
    for id in 1..=500 {
        let envelope = stage.bridge.expect("device.properties.report", "device1");
        assert_eq!(envelope["data"]["properties"]["n"], id);
    }
}

#[test]
fn a_puback_comes_only_after_the_line_is_on_stdout() {
    let (registry, devices) = Registry::numbered(1);
    let mut bridge = Bridge::spawn(&Settings::stdio(&registry), &[]);
    let mut stdout = bridge.take_stdout();
    let mut wire = Wire::connect(bridge.mqtt(), &devices[0]);
    // More than a pipe holds, while nobody reads it: the bridge gets stuck in the middle.
    let padding = "x".repeat(4096);
    for id in 1..=60 {
        wire.publish(&devices[0].topic("event/e1"), &format!(r#"{{"data":"{padding}"}}"#), 1, id);
    }
    let mut acknowledged = 0;
    while let Some(Incoming::Packet(answer)) = wire.next_within(Duration::from_secs(1)) {
        acknowledged += 1;
        assert_eq!(answer, Packet::answer(packet::PUBACK, acknowledged));
    }
    bridge.process().kill9();

    let mut written = String::new();
    stdout.read_to_string(&mut written).unwrap();
    let whole = written.split_inclusive('\n').filter(|line| line.contains(&padding) && line.ends_with('\n')).count();
    assert!(acknowledged < 60, "the pipe held everything, so this proved nothing");
    assert!(whole >= usize::from(acknowledged), "{acknowledged} acknowledged, {whole} on stdout");
}

#[test]
fn a_stuck_queue_closes_the_connection_without_an_acknowledgement() {
    let (registry, devices) = Registry::numbered(1);
    let settings = Settings::stdio(&registry).text("limits.ack_timeout", "500ms");
    let bridge = Bridge::spawn(&settings, &[]);
    let mut wire = Wire::connect(bridge.mqtt(), &devices[0]);
    let padding = "x".repeat(4096);
    for id in 1..=60 {
        let topic = devices[0].topic("event/e1");
        wire.send_regardless(&packet::publish(&topic, format!(r#"{{"data":"{padding}"}}"#).as_bytes(), 1, id));
    }
    let mut acknowledged = 0;
    while let Incoming::Packet(answer) = wire.next() {
        acknowledged += 1;
        assert_eq!(answer, Packet::answer(packet::PUBACK, acknowledged));
    }
    assert!(acknowledged < 60);
}

#[test]
fn numbers_keep_their_digits() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    let body = r#"{"properties":{"a":36.800,"b":12345678901234567890.12345678901234567890,"c":1e400,"d":-0.0}}"#;
    wire.publish(&stage.device1.topic("properties/report"), body, 0, 0);
    let line = stage.bridge.next_line().unwrap();
    for number in ["36.800", "12345678901234567890.12345678901234567890", "1e400", "-0.0"] {
        assert!(line.contains(&format!(":{number}")), "{number}: {line}");
    }
}

#[test]
fn identity_comes_from_the_topic_whatever_the_body_says() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    let body = r#"{"deviceId":"device2","messageType":"ONLINE","event":"x","thingId":"y","thingType":"z","data":1}"#;
    wire.publish(&stage.device1.topic("event/alarm"), body, 0, 0);
    let envelope = stage.bridge.expect("device.event", "device1");
    assert_eq!(envelope["subject"], "alarm");
    let data = &envelope["data"];
    assert_eq!(
        (&data["deviceId"], &data["messageType"], &data["event"]),
        (&json!("device1"), &json!("EVENT"), &json!("alarm"))
    );
    assert_eq!((&data["thingId"], &data["thingType"]), (&json!(null), &json!(null)));
}

#[test]
fn time_is_answered_at_once_and_not_written() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    let before = crate::support::registry::now_ms();
    wire.publish(&stage.device1.topic("time-sync"), r#"{"messageId":"t1"}"#, 1, 3);
    let (mut answer, mut acknowledgement) = (None, None);
    for _ in 0..2 {
        let packet = wire.next_packet();
        match packet.publish() {
            Some(publish) => answer = Some(publish),
            None => acknowledgement = Some(packet),
        }
    }
    assert_eq!(acknowledgement, Some(Packet::answer(packet::PUBACK, 3)));
    let answer = answer.unwrap();
    assert_eq!((answer.topic.as_str(), answer.qos), ("/product1/device1/time-sync/reply", 0));
    let body = answer.json();
    assert_eq!(body["messageId"], "t1");
    assert!((before..before + 60_000).contains(&body["timestamp"].as_i64().unwrap()), "{body}");

    wire.publish(&stage.device1.topic("time-sync"), "{}", 0, 0);
    assert_eq!(wire.next_publish().json().get("messageId"), None);
    stage.assert_nothing_written();
}

#[test]
fn a_topic_may_lack_its_first_slash_and_end_in_one() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    wire.publish("product1/device1/properties/report/", REPORT, 0, 0);
    stage.bridge.expect("device.properties.report", "device1");
}
