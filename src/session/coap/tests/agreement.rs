//! MQTT sessions, CoAP and `explain` make the same of the same message.

use serde_json::Value;

use super::super::fake::{KEY, NOW_MS, Rig, post, secrets};
use crate::codec::coap::option;
use crate::codec::mqtt::{Packet, PacketId, Publish, PublishHead, Qos};
use crate::protocol::explain::Explainer;
use crate::session::mqtt::fake;

const VECTORS: &str = include_str!("../../../../tests/golden/vectors.jsonl");

const PACKET_BYTES: usize = 4096;

/// The last envelope, without what differs by session and by the number of envelopes before it.
fn comparable(mut envelope: Value) -> Value {
    let object = envelope.as_object_mut().expect("an envelope is an object");
    object.remove("id");
    object.remove("sessionid");
    envelope
}

fn over_mqtt(topic: &str, payload: &[u8]) -> Option<Value> {
    let mut rig = fake::Rig::settled();
    rig.world.limits.packet_bytes = PACKET_BYTES;
    let before = rig.world.uplink.published.len();
    let head = PublishHead { dup: false, qos: Qos::AtLeastOnce, retain: false, topic, packet_id: PacketId::new(1) };
    // The transport reads no payload that makes a packet too large.
    if payload.len() + topic.len() + 7 > PACKET_BYTES {
        rig.act(|session, ctx| session.publish(&head, None, ctx));
    } else {
        rig.act(|session, ctx| session.packet(Packet::Publish(Publish { head, payload }), ctx));
    }
    let record = rig.world.uplink.published.get(before).map(|(_, record)| fake::parse(&record.payload))?;
    // The end of a session that spoke for another device writes `offline`.
    (rig.ending().is_none()).then(|| comparable(record))
}

fn over_coap(topic: &str, payload: &[u8]) -> Option<Value> {
    let mut rig = Rig::dtls();
    rig.world.limits.packet_bytes = PACKET_BYTES;
    let token = secrets().issue("device1", KEY, NOW_MS / 1000 + 60);
    rig.feed(&post(1, topic).option(option::TOKEN, &token).payload(payload).encode());
    rig.envelopes().pop().map(comparable)
}

fn explained(topic: &str, payload: &[u8]) -> Option<Value> {
    let explainer = Explainer {
        subject_prefix: "jetlinks".to_owned(),
        kafka_topic: "jetlinks.device".to_owned(),
        kafka_rejected_topic: "jetlinks.rejected".to_owned(),
        packet_bytes_max: PACKET_BYTES,
        now_ms: NOW_MS,
        seed: 1,
    };
    let json = explainer.message(topic, payload, Some(("product1", "device1")), &fake::FakeRegistry);
    let mut explanation: Value = serde_json::from_str(&json).expect("an explanation is JSON");
    let envelope = explanation["envelope"].take();
    if !envelope.is_null() {
        let rejected = &explanation["rejected"];
        let said = rejected.as_object().map(|_| (&rejected["reason"], &rejected["detail"]));
        let written = (envelope["type"] == "org.jetlinks.bridge.rejected")
            .then(|| (&envelope["data"]["reason"], &envelope["data"]["detail"]));
        assert_eq!(said, written, "{topic}");
    }
    (!envelope.is_null()).then(|| comparable(envelope))
}

/// The golden messages, as this device's.
fn messages() -> Vec<(String, Vec<u8>)> {
    let rows = VECTORS.lines().map(|line| serde_json::from_str::<Value>(line).expect("a row is JSON"));
    let mut messages = Vec::new();
    for row in rows.filter(|row| row["dir"] == "up" && row.get("answer").is_none()) {
        let topic = row["topic"].as_str().expect("a topic").trim_start_matches('/');
        if let Some((_, suffix)) = topic.split_once('/').and_then(|(_, rest)| rest.split_once('/')) {
            let payload = row["payload"].as_str().expect("a payload");
            messages.push((format!("/product1/device1/{suffix}"), payload.as_bytes().to_vec()));
        }
    }
    let long = "x/".repeat(300);
    let large = format!(r#"{{"properties":{{"a":"{}"}}}}"#, "x".repeat(PACKET_BYTES));
    for (suffix, payload) in [
        ("child/child1/properties/report", r#"{"properties":{"a":1}}"#),
        ("child/child2/properties/report", r#"{"properties":{"a":1}}"#),
        ("child/child2/properties/report", "no JSON"),
        ("event/e", large.as_str()),
        ("nosuch", large.as_str()),
        (long.as_str(), "{}"),
        ("event/a \"b\" 温", r#"{"data":1}"#),
    ] {
        messages.push((format!("/product1/device1/{suffix}"), payload.as_bytes().to_vec()));
    }
    messages.push(("/product1/device2/log".to_owned(), b"{}".to_vec()));
    messages.push(("/product2/device1/log".to_owned(), b"{}".to_vec()));
    messages
}

#[test]
fn mqtt_coap_and_explain_write_the_same_envelope_for_the_same_message() {
    let messages = messages();
    assert!(messages.len() > 100);
    for (topic, payload) in messages {
        let explained = explained(&topic, &payload);
        assert_eq!(over_mqtt(&topic, &payload), explained, "MQTT {topic} {}", payload.escape_ascii());
        assert_eq!(over_coap(&topic, &payload), explained, "CoAP {topic} {}", payload.escape_ascii());
    }
}
