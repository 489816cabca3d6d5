//! MQTT sessions, CoAP and `explain` make the same of the same message.

use serde_json::Value;

use super::super::fake::{KEY, NOW_MS, Rig, post, secrets};
use crate::codec::coap::{Code, option};
use crate::codec::mqtt::{self, Packet, PacketId, Publish, PublishHead, Qos, Version};
use crate::protocol::explain::Explainer;
use crate::session::fake::{FakeRegistry, parse};
use crate::session::mqtt::fake;

const VECTORS: &str = include_str!("../../../../tests/golden/vectors.jsonl");

const PACKET_BYTES: usize = 4096;

/// Result of a message: its envelope, or the answer to the device.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    envelope: Option<Value>,
    answer: Option<Value>,
}

/// The envelope without what differs by session and by the number of envelopes before it.
fn comparable(mut envelope: Value) -> Value {
    let object = envelope.as_object_mut().expect("an envelope is an object");
    object.remove("id");
    object.remove("sessionid");
    envelope
}

fn over_mqtt(topic: &str, payload: &[u8]) -> Outcome {
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
    // The end of a session that spoke for another device writes `offline`.
    if rig.ending().is_some() {
        return Outcome::default();
    }
    let record = rig.world.uplink.published.get(before).map(|(_, record)| parse(&record.payload));
    Outcome { envelope: record.map(comparable), answer: published(&rig.world.sent) }
}

/// The payload of the PUBLISH in front of what was sent to the device.
fn published(sent: &[u8]) -> Option<Value> {
    let frame = mqtt::frame(sent).expect("well formed")?;
    let body = &sent[frame.header_bytes..frame.total_bytes()];
    match mqtt::decode(Version::V311, frame.first_byte, body).expect("well formed") {
        Packet::Publish(publish) => Some(serde_json::from_slice(publish.payload).expect("an answer is JSON")),
        _ => None,
    }
}

fn over_coap(topic: &str, payload: &[u8]) -> Outcome {
    let mut rig = Rig::dtls();
    rig.world.limits.packet_bytes = PACKET_BYTES;
    let token = secrets().issue("device1", KEY, NOW_MS / 1000 + 60);
    let sent = rig.feed(&post(1, topic).option(option::TOKEN, &token).payload(payload).encode());
    let content = sent.iter().find(|message| message.code() == Code::CONTENT);
    let answer = content.map(|message| serde_json::from_slice(message.payload()).expect("an answer is JSON"));
    Outcome { envelope: rig.envelopes().pop().map(comparable), answer }
}

fn explained(topic: &str, payload: &[u8]) -> Outcome {
    let explainer = Explainer {
        subject_prefix: "jetlinks".to_owned(),
        kafka_topic: "jetlinks.device".to_owned(),
        kafka_rejected_topic: "jetlinks.rejected".to_owned(),
        packet_bytes_max: PACKET_BYTES,
        now_ms: NOW_MS,
        seed: 1,
    };
    let json = explainer.message(topic, payload, Some(("product1", "device1")), &FakeRegistry).json();
    let mut explanation: Value = serde_json::from_str(&json).expect("an explanation is JSON");
    let [envelope, answer] =
        ["envelope", "answer"].map(|name| Some(explanation[name].take()).filter(|it| !it.is_null()));
    assert_eq!(explanation["foreign"], envelope.is_none() && answer.is_none(), "{topic}");
    if let Some(envelope) = &envelope {
        let rejected = &explanation["rejected"];
        let said = rejected.as_object().map(|_| (&rejected["reason"], &rejected["detail"]));
        let written = (envelope["type"] == "org.jetlinks.bridge.rejected")
            .then(|| (&envelope["data"]["reason"], &envelope["data"]["detail"]));
        assert_eq!(said, written, "{topic}");
    }
    Outcome { envelope: envelope.map(comparable), answer }
}

/// The golden messages, as this device's.
fn messages() -> Vec<(String, Vec<u8>)> {
    let rows = VECTORS.lines().map(|line| serde_json::from_str::<Value>(line).expect("a row is JSON"));
    let mut messages = Vec::new();
    for row in rows.filter(|row| row["dir"] == "up") {
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
        ("nosuch", "{}"),
        ("time-sync", large.as_str()),
        ("time-sync", "no JSON"),
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
fn mqtt_coap_and_explain_make_the_same_of_the_same_message() {
    let messages = messages();
    assert!(messages.len() > 100);
    let mut answers = 0;
    for (topic, payload) in messages {
        let explained = explained(&topic, &payload);
        answers += usize::from(explained.answer.is_some());
        assert_eq!(over_mqtt(&topic, &payload), explained, "MQTT {topic} {}", payload.escape_ascii());
        assert_eq!(over_coap(&topic, &payload), explained, "CoAP {topic} {}", payload.escape_ascii());
    }
    assert!(answers >= 2);
}
