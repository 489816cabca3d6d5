//! Envelopes: attributes, addresses, presence, outcomes, both modes.

use jetlinks_bridge::protocol::command::{Command, CommandError, UnreadableCommand};
use jetlinks_bridge::protocol::downlink::Code;
use jetlinks_bridge::protocol::envelope::{Cause, Mode, Reason, Rejection, Source};
use jetlinks_bridge::protocol::message::decode;
use jetlinks_bridge::protocol::topic::{Upward, parse_up};
use jetlinks_bridge::protocol::trace::TraceContext;
use jetlinks_bridge::protocol::uplink::{Addressing, Channel};
use serde_json::{Map, Value, json};

use crate::support::{NOW_MS, SESSION, by_subject, encoder, parsed, record, source};

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

const READ: &[u8] = br#"{"productId":"p","gatewayId":"g","deviceId":"c","messageType":"READ_PROPERTY"}"#;

fn structured() -> jetlinks_bridge::protocol::envelope::Encoder {
    by_subject(Mode::Structured)
}

#[test]
fn binary_mode_carries_the_same_envelope_in_two_parts() {
    for topic in ["/p/d/event/e 1", "/p/g/child/c é/properties/report"] {
        let payload = r#"{"messageId":"m","timestamp":1601196762389,"properties":{"a":1}}"#;
        let whole = parsed(&record(&mut structured(), topic, payload).payload);
        let parts = record(&mut by_subject(Mode::Binary), topic, payload);
        let mut together: Map<String, Value> =
            parts.attributes.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        together.insert("data".to_owned(), parsed(&parts.payload));
        assert_eq!(Value::Object(together), whole);
    }
}

#[test]
fn a_key_is_the_device_that_the_message_is_about() {
    let mut encoder = encoder(Mode::Structured, Addressing::Key);
    assert_eq!(record(&mut encoder, "/p/d/log", "{}").address, "d");
    let child = record(&mut encoder, "/p/g/child/a.b/log", "{}");
    assert_eq!((child.channel, &child.address[..]), (Channel::Device, &b"a.b"[..]));
    assert_eq!(encoder.online(&source("p", "d"), "peer").address, "d");
    assert_eq!(encoder.replica(0, 30_000).address, "replica1");
}

#[test]
fn a_subject_over_1024_bytes_makes_a_rejected_envelope_and_a_key_never_does() {
    let fits = 1024 - "jetlinks.device.p.d.event.".len();
    let topic = format!("/p/d/event/{}{}", "é".repeat(fits / 6), "x".repeat(fits % 6));
    let longest = record(&mut structured(), &topic, "{}");
    assert_eq!((longest.channel, longest.address.len()), (Channel::Device, 1024));
    let beyond = record(&mut structured(), &format!("{topic}x"), r#"{"data":1}"#);
    assert_eq!((beyond.channel, &beyond.address[..]), (Channel::Rejected, &b"jetlinks.rejected.p.d"[..]));
    let envelope = parsed(&beyond.payload);
    assert_eq!(envelope["data"]["reason"], "too_large");
    assert_eq!(envelope["data"]["topic"], format!("{topic}x"));
    assert_eq!(envelope["data"].get("payload_base64"), None);
    let keyed = record(&mut encoder(Mode::Structured, Addressing::Key), &format!("{topic}x"), "{}");
    assert_eq!(keyed.channel, Channel::Device);
}

#[test]
fn the_registrys_product_is_named_where_it_is_known() {
    let Ok(Upward::Message(route)) = parse_up("/p/g/child/c/log", "p", "g") else { panic!("a message") };
    let message = decode(&route, b"{}", NOW_MS).expect("a message of its type");
    let source = Source { about_product: Some("p2"), ..source("p", "g") };
    let record = structured().device(&source, &route, &message, TraceContext::parse(TRACEPARENT));
    let envelope = parsed(&record.payload);
    assert_eq!(envelope["productid"], "p2");
    assert_eq!(envelope["source"], "/p/g/child/c");
    assert_eq!(envelope["traceparent"], TRACEPARENT);
    assert_eq!(record.trace, TraceContext::parse(TRACEPARENT));
    assert_eq!(record.address, "jetlinks.device.p.g.child.c.log");
    assert_eq!(record.recorded_ms, NOW_MS);
}

#[test]
fn a_rejection_names_its_reason_and_carries_its_payload() {
    let rejection =
        Rejection { topic: "/p/d/x", payload: Some(b"\x00\xffabc"), reason: Reason::ForeignChild, detail: "of gw2" };
    let record = structured().rejected(&source("p", "d"), &rejection, None);
    let envelope = parsed(&record.payload);
    let data = json!({"topic": "/p/d/x", "payload_base64": "AP9hYmM=", "reason": "foreign_child", "detail": "of gw2"});
    assert_eq!(envelope["data"], data);
    assert_eq!(
        (envelope["type"].as_str(), envelope["origin"].as_str()),
        (Some("org.jetlinks.bridge.rejected"), Some("bridge"))
    );
    assert_eq!((envelope["deviceid"].as_str(), envelope["sessionid"].as_str()), (Some("d"), Some(SESSION)));
}

#[test]
fn presence_carries_session_and_replica_and_comes_from_the_bridge() {
    let mut encoder = structured();
    let online = encoder.child_online(&source("p", "g"), "c", "10.0.0.1:5\"");
    assert_eq!(online.address, "jetlinks.device.p.g.child.c.online");
    let envelope = parsed(&online.payload);
    assert_eq!(envelope["type"], "org.jetlinks.device.online");
    assert_eq!((envelope["deviceid"].as_str(), envelope["gatewayid"].as_str()), (Some("c"), Some("g")));
    let headers = json!({"cliAddr": "10.0.0.1:5\""});
    assert_eq!(
        envelope["data"],
        json!({"messageType": "ONLINE", "deviceId": "c", "timestamp": NOW_MS, "headers": headers})
    );
    let causes = [
        (Cause::Disconnected, "disconnected"),
        (Cause::ConnectionLost, "connection_lost"),
        (Cause::KeepAlive, "keep_alive"),
        (Cause::Kicked, "kicked"),
        (Cause::Drained, "drained"),
        (Cause::ProtocolError, "protocol_error"),
        (Cause::NotAcknowledged, "not_acknowledged"),
        (Cause::SupersededByPolicy, "superseded_by_policy"),
    ];
    for (cause, text) in causes {
        for offline in [encoder.offline(&source("p", "d"), cause), encoder.child_offline(&source("p", "d"), "c", cause)]
        {
            let envelope = parsed(&offline.payload);
            assert_eq!(envelope["data"]["headers"], json!({"cause": text}));
            assert_eq!(envelope["data"]["messageType"], "OFFLINE");
            assert_eq!(
                (envelope["origin"].as_str(), envelope["replicaid"].as_str()),
                (Some("bridge"), Some("replica1"))
            );
            assert_eq!(envelope["sessionid"], SESSION);
        }
    }
}

#[test]
fn a_heartbeat_tells_the_replica_its_sessions_and_when_the_next_one_comes() {
    let record = structured().replica(7, 5_000);
    assert_eq!((record.channel, &record.address[..]), (Channel::Replica, &b"jetlinks.bridge.replica.replica1"[..]));
    let envelope = parsed(&record.payload);
    assert_eq!(envelope["type"], "org.jetlinks.bridge.replica");
    assert_eq!(envelope["data"], json!({"replicaid": "replica1", "sessions": 7, "interval_ms": 5_000}));
    assert_eq!(envelope.get("deviceid"), None);
}

#[test]
fn a_reply_is_the_same_envelope_for_the_queue_and_for_the_caller() {
    for mode in [Mode::Structured, Mode::Binary] {
        let topic = "/p/d/properties/read/reply";
        let Ok(Upward::Message(route)) = parse_up(topic, "p", "d") else { panic!("a message") };
        let payload = br#"{"messageId":7,"success":false,"code":"E\"1","properties":{"sn":1.0}}"#;
        let message = decode(&route, payload, NOW_MS).expect("a message of its type");
        assert_eq!(message.message_id().as_deref(), Some("7"));
        assert_eq!((message.success(), message.code().as_deref()), (Some(false), Some("E\"1")));
        let (record, outcome) = by_subject(mode).reply(&source("p", "d"), &route, &message, None, ("corr", None));
        assert_eq!(record, by_subject(mode).device(&source("p", "d"), &route, &message, None));
        assert_eq!((outcome.device.as_str(), outcome.correlation_id.as_str(), outcome.failure), ("d", "corr", None));
        match mode {
            Mode::Structured => {
                let mut expected = parsed(&record.payload);
                expected["correlationid"] = json!("corr");
                assert_eq!(parsed(&outcome.payload), expected);
            }
            Mode::Binary => {
                assert_eq!(outcome.payload, record.payload);
                let more = &outcome.attributes[record.attributes.len()..];
                assert_eq!(outcome.attributes[..record.attributes.len()], record.attributes);
                assert_eq!(more, [("correlationid", "corr".to_owned())]);
            }
        }
    }
}

#[test]
fn a_failure_is_an_envelope_of_the_reply_type_from_the_bridge() {
    let command = Command::from_json(READ).expect("a command").identity("7");
    for code in [Code::ClientOffline, Code::ConnectionLost, Code::TimeOut, Code::SystemBusy, Code::SystemError] {
        let outcome = structured().failure(&command, code, "why \"so\"");
        assert_eq!(outcome.failure, Some((code, "why \"so\"".to_owned())));
        assert_eq!((outcome.device.as_str(), outcome.correlation_id.as_str()), ("c", "7"));
        let envelope = parsed(&outcome.payload);
        assert_eq!(envelope["type"], "org.jetlinks.device.properties.read.reply");
        assert_eq!((envelope["origin"].as_str(), envelope["correlationid"].as_str()), (Some("bridge"), Some("7")));
        assert_eq!((envelope["source"].as_str(), envelope["gatewayid"].as_str()), (Some("/p/g/child/c"), Some("g")));
        let data = json!({
            "messageType": "READ_PROPERTY_REPLY", "messageId": "7", "deviceId": "c", "timestamp": NOW_MS,
            "success": false, "code": code.as_str(), "message": "why \"so\"",
        });
        assert_eq!(envelope["data"], data);
    }
}

#[test]
fn an_accepted_command_is_being_handled_or_where_it_has_no_reply_acknowledged() {
    let rows = [
        ("READ_PROPERTY", "READ_PROPERTY_REPLY", Some("REQUEST_HANDLING")),
        ("REQUEST_FIRMWARE_REPLY", "ACKNOWLEDGE", None),
        ("DIRECT", "ACKNOWLEDGE", None),
    ];
    for (message_type, reply, code) in rows {
        let json = json!({"productId": "p", "deviceId": "d", "messageType": message_type, "payload": ""}).to_string();
        let command = Command::from_json(json.as_bytes()).expect("a command").identity("7");
        let outcome = structured().accepted(&command);
        assert_eq!(outcome.failure, None);
        let envelope = parsed(&outcome.payload);
        assert_eq!(envelope["data"]["messageType"], reply);
        assert_eq!(envelope["data"]["success"], true);
        assert_eq!(envelope["data"].get("code").and_then(Value::as_str), code);
    }
    let json = br#"{"productId":"p","deviceId":"d","messageType":"DISCONNECT"}"#;
    let outcome = structured().disconnected(&Command::from_json(json).expect("a command").identity("7"));
    let envelope = parsed(&outcome.payload);
    assert_eq!(envelope["type"], "org.jetlinks.device.disconnect.reply");
    assert_eq!(
        envelope["data"],
        json!({"messageType": "DISCONNECT_REPLY", "messageId": "7", "deviceId": "d", "timestamp": NOW_MS, "success": true})
    );
}

#[test]
fn a_refused_command_tells_its_caller_as_much_as_could_be_read() {
    let refused = |json: &[u8]| {
        let error = Command::from_json(json).expect_err("a refusal");
        (structured().refused(&error), error)
    };
    let (outcome, error) = refused(b"{");
    assert!(matches!(error, CommandError::Unreadable(..)));
    let envelope = parsed(&outcome.payload);
    assert_eq!(envelope["type"], "org.jetlinks.bridge.command.failed");
    assert_eq!(envelope["source"], "urn:jetlinks-bridge:replica1");
    assert_eq!(envelope["data"]["code"], "PARAMETER_ERROR");
    assert_eq!((envelope.get("correlationid"), envelope.get("deviceid")), (None, None));
    let no_product = br#"{"deviceId":"d","messageType":"LOG","messageId":7,"headers":{"correlation-id":"c"}}"#;
    let (outcome, _) = refused(no_product);
    let envelope = parsed(&outcome.payload);
    assert_eq!(envelope["type"], "org.jetlinks.bridge.command.failed");
    assert_eq!((&envelope["correlationid"], outcome.correlation_id.as_str()), (&json!("c"), "c"));
    let payload = "eyJkZXZpY2VJZCI6ImQiLCJtZXNzYWdlVHlwZSI6IkxPRyIsIm1lc3NhZ2VJZCI6NywiaGVhZGVycyI6eyJjb3JyZWxhdGlvbi1pZCI6ImMifX0=";
    let expected = json!({
        "code": "PARAMETER_ERROR", "message": "productId is missing", "messageId": "7", "deviceId": "d", "messageType": "LOG",
        "payload_base64": payload,
    });
    assert_eq!(envelope["data"], expected);
    let long = format!(r#"{{"deviceId":"{}","messageType":"LOG","filling":"{}"}}"#, "d".repeat(129), "x".repeat(9_000));
    let data = parsed(&refused(long.as_bytes()).0.payload)["data"].clone();
    assert_eq!((data.get("deviceId"), &data["messageType"]), (None, &json!("LOG")), "as long as no id is");
    let kept = data["payload_base64"].as_str().map(str::len);
    assert_eq!(kept, Some(UnreadableCommand::PAYLOAD_BYTES_MAX.div_ceil(3) * 4));
    let (outcome, _) = refused(br#"{"messageId":"m","deviceId":"d","headers":{"timeout":"soon"}}"#);
    assert_eq!(parsed(&outcome.payload)["correlationid"], "m");
    let (outcome, _) = refused(br#"{"productId":"p","deviceId":"d","messageType":"LOG","messageId":"m"}"#);
    let envelope = parsed(&outcome.payload);
    assert_eq!(envelope["type"], "org.jetlinks.device.acknowledge");
    assert_eq!(envelope["data"]["code"], "UNSUPPORTED_MESSAGE");
    assert_eq!(envelope["correlationid"], "m");
    let (outcome, _) = refused(br#"{"productId":"p","deviceId":"d","messageType":"READ_PROPERTY","properties":1}"#);
    let envelope = parsed(&outcome.payload);
    assert_eq!(envelope["type"], "org.jetlinks.device.properties.read.reply");
    assert_eq!(envelope["data"].get("messageId"), None);
    assert!(matches!(outcome.failure, Some((Code::ParameterError, _))));
}

#[test]
fn envelopes_outlive_the_chunk_they_were_cut_from() {
    let mut encoder = structured();
    let long = format!(r#"{{"log":"{}"}}"#, "x".repeat(100_000));
    let mut records = Vec::new();
    for index in 0..2000_u64 {
        encoder.set_now(NOW_MS + index / 10);
        let payload = if index % 500 == 0 { long.clone() } else { format!(r#"{{"messageId":{index}}}"#) };
        records.push((record(&mut encoder, "/p/d/log", &payload), payload));
    }
    let mut ids: Vec<String> = Vec::new();
    for (index, (record, payload)) in records.iter().enumerate() {
        let envelope = parsed(&record.payload);
        match payload == &long {
            true => assert_eq!(envelope["data"]["log"].as_str().map(str::len), Some(100_000)),
            false => assert_eq!(envelope["data"]["messageId"], index.to_string()),
        }
        assert_eq!(record.address, "jetlinks.device.p.d.log");
        ids.push(envelope["id"].as_str().expect("an id").to_owned());
    }
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
}
