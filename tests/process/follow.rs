//! Operators who follow what happens to a device.

use std::time::Duration;

use serde_json::Value;

use crate::Stage;
use crate::command::command;
use crate::support::follow::Following;
use crate::support::packet::{self, Packet};
use crate::support::{
    Bridge, Certificate, CoapDevice, Connect, Registration, Registry, Settings, Wire, bridge, eventually, http,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Answers that go on at once.
const STREAMS_MAX: usize = 16;

const TRACE: &str = "/api/trace?device=device1&for=1m";

fn texts<'a>(lines: &'a [Value], member: &str) -> Vec<&'a str> {
    lines.iter().filter_map(|line| line[member].as_str()).collect()
}

#[test]
fn a_trace_shows_what_came_what_became_of_it_and_what_was_answered_in_order() {
    let mut stage = Stage::new();
    let mut trace = Following::begin(stage.bridge.admin(), TRACE).unwrap();
    let first = trace.next().unwrap();
    assert_eq!((&first["event"], first["replicas"].as_array().map(Vec::len)), (&"following".into(), Some(1)));
    assert!(first["text"].as_str().unwrap().contains("do not hear each other without nats.servers"), "{first}");

    let good = Connect::of(&stage.device1);
    let mut wire = Wire::open(stage.bridge.mqtt());
    wire.send(&Connect { password: Some("0".repeat(32)), ..good.clone() }.bytes());
    assert_eq!(wire.next_packet(), Packet { header: 0x20, body: vec![0, 4] });
    // Nobody follows that one.
    let other = stage.device2.clone();
    let mut bystander = stage.connect(&other);
    bystander.publish_acknowledged(&other.topic("tags"), r#"{"tags":{}}"#, 1);
    stage.bridge.expect("device.tags", &other.id);

    let mut wire = stage.connect1();
    wire.send(&packet::subscribe(1, &[("/product1/device1/#", 1), ("/other/#", 1)]));
    wire.next_packet();
    let report = stage.device1.topic("properties/report");
    wire.publish_acknowledged(&report, r#"{"properties":{"temp":1.50}}"#, 2);
    wire.publish_acknowledged(&report, r#"{"properties":1}"#, 3);
    stage.bridge.type_line(&command("READ_PROPERTY", r#""messageId":"m1","properties":["sn"]"#));
    let sent = wire.next_publish();
    wire.reply(&sent, r#""success":true,"properties":{"sn":"s1"}"#);
    wire.send(&packet::DISCONNECT);
    let mut lines = trace.until("disconnect");
    lines.extend(trace.until("envelope"));
    // When presence and QoS 0 are stored depends on the queue alone.
    lines.retain(|line| line["event"] != "acknowledged" || line["answer"].is_string());
    let expected = [
        ["refused", "connect", "envelope", "subscribe", "subscribe"],
        ["publish", "envelope", "acknowledged", "publish", "rejected"],
        ["acknowledged", "command", "sent", "publish", "reply"],
    ];
    let events = texts(&lines, "event");
    assert_eq!(events, [&expected.concat()[..], &["envelope", "disconnect", "envelope"]].concat(), "{lines:#?}");
    assert!(lines.iter().all(|line| line["device"] == "device1"), "{lines:#?}");
    assert_eq!(lines[0]["reason"], "wrong_credentials");
    assert_eq!((&lines[3]["granted"], &lines[4]["granted"]), (&1.into(), &Value::Null));
    assert_eq!(lines[5]["payload"], r#"{"properties":{"temp":1.50}}"#);
    assert_eq!((&lines[6]["id"], &lines[7]["answer"]), (&lines[7]["id"], &"PUBACK 2".into()));
    assert!(lines[9]["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{}", lines[9]);
    assert_eq!(texts(&lines[11..=14], "messageId"), ["m1", "m1", "m1"]);
    let shown = format!("{lines:?}");
    for secret in [good.password.as_deref().unwrap(), good.username.as_deref().unwrap(), &stage.device1.secure_key] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn envelopes_are_shown_as_they_are_stored() {
    let mut stage = Stage::new();
    let path = "/api/envelopes?product=product1&type=properties.report&replicas=this";
    let mut envelopes = Following::begin(stage.bridge.admin(), path).unwrap();
    assert_eq!(envelopes.next().unwrap()["event"], "following");
    let mut wire = stage.connect1();
    wire.publish_acknowledged(&stage.device1.topic("tags"), r#"{"tags":{}}"#, 1);
    wire.publish_acknowledged(&stage.device1.topic("properties/report"), r#"{"properties":{"temp":1.50}}"#, 2);
    stage.bridge.next_line();
    let stored: Value = serde_json::from_str(&stage.bridge.next_line().unwrap()).unwrap();
    let shown = envelopes.next().unwrap();
    assert_eq!(shown["envelope"], stored);
    assert!(shown["replicaId"].is_string());
}

#[test]
fn a_slow_reader_is_told_how_many_lines_it_missed_and_devices_notice_nothing() {
    let mut stage = Stage::new();
    let mut envelopes = Following::slowly(stage.bridge.admin(), "/api/envelopes").unwrap();
    let mut wire = stage.connect1();
    let report = stage.device1.topic("properties/report");
    let payload = format!(r#"{{"properties":{{"text":"{}"}}}}"#, "x".repeat(200_000));
    // More than the buffers of both sockets and the queue of lines hold together.
    for id in 1..=60 {
        wire.publish_acknowledged(&report, &payload, id);
        stage.bridge.next_line();
    }
    let (mut shown, mut dropped) = (0, 0);
    assert_eq!(envelopes.next().unwrap()["event"], "following");
    while shown + dropped < 61 {
        let line = envelopes.next().expect("it goes on");
        match line["dropped"].as_u64() {
            Some(count) => dropped += count,
            None => shown += 1,
        }
    }
    assert_eq!((shown + dropped, dropped > 0), (61, true), "the reports and online");
    wire.publish_acknowledged(&stage.device1.topic("tags"), r#"{"tags":{}}"#, 61);
    let last = envelopes.next().unwrap();
    assert_eq!(last["envelope"]["type"], "org.jetlinks.device.tags", "{last}");
}

#[test]
fn an_operator_who_is_gone_leaves_his_place_to_others() {
    let stage = Stage::new();
    let admin = stage.bridge.admin();
    let mut all: Vec<Following> = (0..STREAMS_MAX).map(|_| Following::begin(admin, TRACE).unwrap()).collect();
    assert_eq!(Following::begin(admin, "/api/envelopes").err(), Some(503));
    assert_eq!(http::get(admin, "/livez").unwrap().status, 200);
    all.clear();
    let again = eventually("the places are free", PATIENCE, || {
        let all: Result<Vec<Following>, u16> = (0..STREAMS_MAX).map(|_| Following::begin(admin, TRACE)).collect();
        all.ok()
    });
    assert_eq!(again.len(), STREAMS_MAX);
}

#[test]
fn the_subcommand_shows_a_trace_and_ends_with_its_time() {
    let stage = Stage::new();
    let address = stage.bridge.admin().to_string();
    let line = ["trace", "--address", &address, "--for", "1s", "--device", "device1"];
    let text = bridge::run(&line, "");
    assert_eq!((text.code, text.stderr.as_str()), (0, ""), "{text:?}");
    assert!(text.stdout.contains(" following    everything about device device1 for 1 s"), "{text:?}");
    let json = bridge::run(&[&line[..], &["--output", "json"]].concat(), "");
    let first: Value = serde_json::from_str(json.stdout.lines().next().unwrap()).unwrap();
    assert_eq!((json.code, &first["event"]), (0, &"following".into()), "{json:?}");
    drop(stage);
    let gone = bridge::run(&line, "");
    assert_eq!(gone.code, 1);
    assert!(gone.stderr.starts_with(&format!("trace: {address}: ")), "{gone:?}");
}

#[test]
fn requests_over_coap_are_followed_as_messages_over_mqtt_are() {
    let devices = [Registration::encrypting("device1"), Registration::encrypting("device2")];
    let (registry, certificate) = (Registry::new(&devices), Certificate::elliptic());
    let bridge = Bridge::start(&Settings::stdio(&registry).coap(&certificate));
    let mut trace = Following::begin(bridge.admin(), TRACE).unwrap();
    trace.next().unwrap();
    let mut plain = CoapDevice::plain(bridge.listener("coap"));
    for (device, suffix, json) in [
        (&devices[1], "properties/report", r#"{"properties":{"t":1}}"#),
        (&devices[0], "properties/report", r#"{"properties":{"t":1.50}}"#),
        (&devices[0], "properties/report", r#"{"properties":1}"#),
    ] {
        let request = plain.encrypted(device, suffix, json);
        plain.request(&request);
    }
    let other_key = Registration { secure_key: "0123456789abcdef".to_owned(), ..devices[0].clone() };
    let request = plain.encrypted(&other_key, "properties/report", r#"{"properties":{"t":1}}"#);
    plain.request(&request);
    let mut secured = CoapDevice::dtls(bridge.listener("dtls"));
    let token = secured.token(&devices[0]);
    let request = secured.with_token(&devices[0], &token, "tags", r#"{"tags":{}}"#);
    secured.request(&request);
    let mut lines: Vec<Value> = Vec::new();
    while !lines.iter().any(|line| line["peer"] == secured.address().to_string() && line["event"] == "acknowledged") {
        lines.push(trace.next().unwrap());
    }
    let expected = [
        ["publish", "envelope", "acknowledged", "publish", "rejected", "acknowledged"],
        ["refused", "response", "response", "publish", "envelope", "acknowledged"],
    ];
    assert_eq!(texts(&lines, "event"), expected.concat(), "{lines:#?}");
    assert!(lines.iter().all(|line| line["device"] == "device1" && line["peer"].is_string()), "{lines:#?}");
    assert_eq!(lines[0]["payload"], r#"{"properties":{"t":1.50}}"#);
    assert_eq!((&lines[2]["answer"], &lines[5]["answer"]), (&"2.01".into(), &"4.00".into()));
    assert_eq!((&lines[7]["code"], &lines[8]["code"]), (&"4.01".into(), &"2.05".into()));
    let shown = format!("{lines:?}");
    assert!(!shown.contains(&token) && !shown.contains(&devices[0].secure_key), "{shown}");
}
