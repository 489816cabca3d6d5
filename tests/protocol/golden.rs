//! Whole envelopes as the platform reads them. A change of `golden/envelopes.jsonl` is a change of the contract.

use std::fmt::Write as _;

use jetlinks_bridge::protocol::command::{Command, UnreadableCommand};
use jetlinks_bridge::protocol::downlink::Code;
use jetlinks_bridge::protocol::envelope::{Cause, Mode, Reason, Rejection};
use jetlinks_bridge::protocol::message::decode;
use jetlinks_bridge::protocol::topic::{Upward, parse_up};

use crate::support::{NOW_MS, by_subject, record, source};

const ENVELOPES: &str = include_str!("../golden/envelopes.jsonl");

#[test]
fn envelopes_are_written_byte_for_byte_as_the_golden_file_has_them() {
    let mut encoder = by_subject(Mode::Structured);
    let own = source("product1", "device1");
    let gateway = source("product1", "gw1");
    let mut lines = String::new();
    let mut line = |bytes: &[u8]| writeln!(lines, "{}", String::from_utf8_lossy(bytes)).expect("a text takes all");
    for (topic, payload) in [
        (
            "/product1/device1/properties/report",
            r#"{"timestamp":1601196762389,"messageId":"m1","properties":{"temp":36.80,"on":true,"none":null}}"#,
        ),
        ("/product1/device1/event/fire alarm", r#"{"messageId":12,"data":{"level":3},"extra":[1, 2]}"#),
        ("/product1/gw1/child-reply/child1/properties/wirte/reply", r#"{"messageId":"m2"}"#),
        ("/product1/gw1/child/child1/child/传感器/tags", "{}"),
        ("/product1/device1/firmware/upgrade/progress", r#"{"progress":"50","version":2}"#),
        ("/product1/device1/direct", "raw"),
    ] {
        line(&record(&mut encoder, topic, payload).payload);
    }
    let rejection = Rejection {
        topic: "/product1/device1/nosuch",
        payload: Some(b"{}"),
        reason: Reason::UnknownTopic,
        detail: "devices send no message on this topic",
    };
    line(&encoder.rejected(&own, &rejection, None).payload);
    line(&encoder.online(&own, "192.0.2.1:40000").payload);
    line(&encoder.offline(&own, Cause::KeepAlive).payload);
    line(&encoder.child_online(&gateway, "child1", "192.0.2.1:40000").payload);
    line(&encoder.replica(3, 30_000).payload);
    let topic = "/product1/device1/properties/read/reply";
    let Ok(Upward::Message(route)) = parse_up(topic, "product1", "device1") else { panic!("a message") };
    let message = decode(&route, br#"{"messageId":"m3","properties":{"sn":"1"}}"#, NOW_MS).expect("a reply");
    line(&encoder.reply(&own, &route, &message, None, ("request1", None)).1.payload);
    let json = br#"{"productId":"product1","deviceId":"device1","messageType":"READ_PROPERTY"}"#;
    let command = Command::from_json(json).expect("a command").identity("m4");
    line(&encoder.failure(&command, Code::TimeOut, "no reply within 10000 ms").payload);
    line(&encoder.accepted(&command).payload);
    let unreadable = UnreadableCommand { text: "productId is missing".to_owned(), ..UnreadableCommand::default() };
    line(&encoder.command_failed(&unreadable).payload);
    let record = UnreadableCommand {
        message_id: Some("m5".to_owned()),
        correlation_id: Some("request2".to_owned()),
        members: vec![("deviceId", "device1".to_owned()), ("messageType", "READ_PROPERTY".to_owned())],
        topic: Some("jetlinks.command".to_owned()),
        record: Some((3, 17)),
        payload: br#"{"messageType":"READ_PROPERTY","deviceId":"device1","messageId":"m5"}"#.to_vec(),
        ..unreadable
    };
    line(&encoder.command_failed(&record).payload);
    for (written, golden) in lines.lines().zip(ENVELOPES.lines()) {
        assert_eq!(written, golden);
    }
    assert_eq!(lines, ENVELOPES);
}
