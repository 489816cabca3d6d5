//! A topic and a payload of a device, from the wire to the record. The input is the topic, a line break, the payload.

use jetlinks_bridge::protocol::address::SUBJECT_BYTES_MAX;
use jetlinks_bridge::protocol::envelope::{Encoder, Mode, Source};
use jetlinks_bridge::protocol::id::{DeviceId, ProductId};
use jetlinks_bridge::protocol::json::{DEPTH_MAX, compact, scan, unescape};
use jetlinks_bridge::protocol::message::{Undecodable, decode, time_sync_answer};
use jetlinks_bridge::protocol::topic::{MessageType, Route, TOPIC_BYTES_MAX, TopicError, Upward, parse_up};
use jetlinks_bridge::protocol::uplink::{Addressing, Channel, Record};
use serde_json::{Map, Value};

/// Time of receipt, ms since 1970.
const NOW_MS: u64 = 1_795_338_000_123;

/// Reads the topic as the device's own that it names, then reads the payload twice, by this project and by `serde_json`.
pub fn check(data: &[u8]) {
    let (topic, payload) = match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &b"{}"[..]),
    };
    json(payload);
    let Ok(topic) = std::str::from_utf8(topic) else { return };
    let mut segments = topic.strip_prefix('/').unwrap_or(topic).split('/');
    let (product, device) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
    assert!(product == "another" || parse_up(topic, "another", device) == Err(TopicError::Foreign));
    if ProductId::new(product).is_err() || DeviceId::new(device).is_err() {
        return;
    }
    match parse_up(topic, product, device) {
        Ok(Upward::Message(route)) => message(&route, payload),
        Ok(Upward::TimeSync) => {
            if let Ok(answer) = time_sync_answer(payload, NOW_MS) {
                assert_eq!(parsed(&answer)["timestamp"], NOW_MS);
            }
        }
        Err(TopicError::Foreign) => panic!("{topic:?} is foreign to the device that it names"),
        Err(TopicError::TooLarge) => assert!(topic.len() > TOPIC_BYTES_MAX),
        Err(TopicError::Unknown) => {}
    }
}

/// Both readers take the same payloads and understand the same.
fn json(payload: &[u8]) {
    let mut members: Map<String, Value> = Map::new();
    let ours = scan(payload, |member| {
        let written = compact(member.value);
        let value: Value = serde_json::from_str(member.value).expect("a value is JSON");
        assert_eq!(serde_json::from_slice(&written).ok().as_ref(), Some(&value));
        assert!(!written.contains(&b'\n') && !written.contains(&b'\r'));
        if !member.irregular {
            assert!(!member.value.contains(['\n', '\r']));
        }
        members.insert(unescape(member.key).into_owned(), value);
    });
    let Ok(text) = std::str::from_utf8(payload) else {
        return assert!(ours.is_err(), "no UTF-8, and taken");
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.contains('$') || text.contains("\\u0024") {
        // May spell the key under which `serde_json` hides numbers whose digits it keeps; it means something else to it.
        return;
    }
    let theirs = serde_json::from_str::<Value>(text).ok();
    match (ours, theirs) {
        (Ok(()), Some(theirs)) => assert_eq!(Value::Object(members), theirs),
        (Ok(()), None) => panic!("taken, and no JSON"),
        (Err(error), Some(Value::Object(_))) => assert!(depth(text) > DEPTH_MAX, "refused: {error}"),
        (Err(_), _) => {}
    }
}

/// How deep brackets outside strings are nested.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn message(route: &Route<'_>, payload: &[u8]) {
    let decoded = decode(route, payload, NOW_MS);
    if route.message_type != MessageType::Direct {
        let is_empty = payload.is_empty() && route.message_type.allows_empty_body();
        let is_readable = is_empty || scan(payload, |_| ()).is_ok();
        assert_eq!(!is_readable, matches!(decoded, Err(Undecodable::Json(_))));
    }
    let Ok(message) = decoded else { return };
    let source = Source { product: route.product, device: route.device, session: Some("s"), about_product: None };
    let mut structured = encoder(Mode::Structured, Addressing::Subject("jetlinks".to_owned()));
    let record = structured.device(&source, route, &message, None);
    subject(&record);
    let envelope = parsed(&record.payload);
    assert!(!record.payload.contains(&b'\n'), "one envelope is one line");
    if record.channel == Channel::Rejected {
        assert_eq!(envelope["data"]["reason"], "too_large");
        return;
    }
    assert_eq!(envelope["origin"], "device");
    assert_eq!(envelope["deviceid"], route.about());
    assert_eq!(envelope["type"], format!("org.jetlinks.device.{}", route.message_type.dotted()));
    let data = &envelope["data"];
    assert_eq!(data["deviceId"], route.about());
    assert_eq!(data["messageType"], route.message_type.name());
    assert_eq!(data["event"].as_str(), route.event);
    assert_eq!(data["timestamp"], message.timestamp());
    let mut binary = encoder(Mode::Binary, Addressing::Key);
    let record = binary.device(&source, route, &message, None);
    assert_eq!(record.address, route.about().as_bytes());
    assert_eq!(&parsed(&record.payload), data, "the modes differ");
}

/// No byte of a device's text leaves its token of the subject.
fn subject(record: &Record) {
    assert!(record.address.len() <= SUBJECT_BYTES_MAX);
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-%.".contains(byte);
    assert!(record.address.iter().all(is_plain), "{}", record.address.escape_ascii());
    assert!(record.address.split(|byte| *byte == b'.').all(|token| !token.is_empty()));
}

fn encoder(mode: Mode, addressing: Addressing) -> Encoder {
    let mut encoder = Encoder::new(mode, addressing, "replica1".to_owned(), 1);
    encoder.set_now(NOW_MS);
    encoder
}

fn parsed(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap_or_else(|error| panic!("{error}: {}", json.escape_ascii()))
}
