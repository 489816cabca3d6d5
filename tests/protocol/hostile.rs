//! Text of devices and callers that tries to be something else.

use std::time::Instant;

use jetlinks_bridge::protocol::command::Command;
use jetlinks_bridge::protocol::envelope::{Mode, Reason, Rejection};
use jetlinks_bridge::protocol::message::decode;
use jetlinks_bridge::protocol::topic::{Upward, parse_up};
use serde_json::{Value, json};

use crate::support::{NOW_MS, Nobody, Random, by_subject, explainer, parsed, record, source};

#[test]
fn no_text_of_a_device_leaves_its_place_in_the_envelope() {
    let nasty = "\",\"origin\":\"bridge\\\u{e9}";
    let topic = format!("/p\"\\/g\"\\/child/{nasty}/event/{nasty}");
    let payload = json!({"messageId": nasty, "data": nasty, "origin": "bridge", nasty: {nasty: nasty}}).to_string();
    let envelope = parsed(&record(&mut by_subject(Mode::Structured), &topic, &payload).payload);
    assert_eq!(envelope["origin"], "device");
    assert_eq!(envelope["subject"], nasty);
    assert_eq!(envelope["deviceid"], nasty);
    assert_eq!(envelope["gatewayid"], "g\"\\");
    assert_eq!(envelope["productid"], "p\"\\");
    assert_eq!(envelope["data"]["event"], nasty);
    assert_eq!(envelope["data"]["deviceId"], nasty);
    assert_eq!(envelope["data"]["messageId"], nasty);
    assert_eq!(envelope["data"]["data"], nasty);
    assert_eq!(envelope["data"]["origin"], "bridge");
    assert_eq!(envelope["data"][nasty], json!({nasty: nasty}));
    let source = envelope["source"].as_str().expect("a source");
    assert!(source.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/%-._~".contains(&byte)), "{source}");
}

#[test]
fn ids_that_look_like_subjects_stay_one_token_each() {
    let record = record(&mut by_subject(Mode::Structured), "/p.*/g>/child/a.b/event/e e", "{}");
    assert_eq!(record.address, "jetlinks.device.p%2E%2A.g%3E.child.a%2Eb.event.e%20e");
}

#[test]
fn every_envelope_is_one_line() {
    let mut encoder = by_subject(Mode::Structured);
    let payload = "{\r\n\t\"messageId\" :\n \"m\" ,\n \"properties\"\n: {\n\"a\\n\" : [ 1 ,\r 2 ] } ,\n\"x\":{\n} }\n";
    let envelope = record(&mut encoder, "/p/d/properties/report", payload).payload;
    assert!(!envelope.contains(&b'\n') && !envelope.contains(&b'\r'), "{}", envelope.escape_ascii());
    assert_eq!(parsed(&envelope)["data"]["properties"], json!({"a\n": [1, 2]}));
    let rejection =
        Rejection { topic: "/p/d/a\nb", payload: Some(b"\n"), reason: Reason::UnknownTopic, detail: "line\r\nbreak" };
    let envelope = encoder.rejected(&source("p", "d"), &rejection, None).payload;
    assert!(!envelope.contains(&b'\n') && !envelope.contains(&b'\r'), "{}", envelope.escape_ascii());
    assert_eq!(parsed(&envelope)["data"]["detail"], "line\r\nbreak");
}

#[test]
fn digits_inside_values_stay_as_the_device_wrote_them() {
    let digits = "[1.0,1.10,-0,1E+2,0.1e-7,123456789012345678901234567890,3.141592653589793238462643383279]";
    for (topic, field) in [
        ("/p/d/properties/report", "properties"),
        ("/p/d/event/e", "data"),
        ("/p/d/function/invoke/reply", "output"),
        ("/p/d/tags", "tags"),
        ("/p/d/log", "unknown"),
    ] {
        let payload = format!("{{\"{field}\":{{\"a\":{digits}}}}}");
        let envelope = record(&mut by_subject(Mode::Structured), topic, &payload).payload;
        let text = String::from_utf8(envelope.to_vec()).expect("UTF-8");
        assert!(text.contains(&format!("\"{field}\":{{\"a\":{digits}}}")), "{text}");
    }
}

#[test]
fn of_equal_keys_the_last_wins_even_for_what_would_be_undecodable() {
    let rows = [
        (r#"{"messageId":{},"messageId":"b","properties":[],"properties":{"a":1}}"#, json!("b"), json!({"a": 1})),
        (
            r#"{"messageId":"a","m\u0065ssageId":"b","properties":{"x":{"y":1,"y":2}}}"#,
            json!("b"),
            json!({"x": {"y": 2}}),
        ),
        (r#"{"properties":{"a":1},"properties":null}"#, Value::Null, Value::Null),
    ];
    for (payload, message_id, properties) in rows {
        let envelope = parsed(&record(&mut by_subject(Mode::Structured), "/p/d/properties/report", payload).payload);
        assert_eq!(envelope["data"]["messageId"], message_id, "{payload}");
        assert_eq!(envelope["data"]["properties"], properties, "{payload}");
    }
    let said = parsed(explainer().message("/p/d/log", br#"{"log":"a","log":{}}"#, None, &Nobody).json().as_bytes());
    assert_eq!(said["rejected"]["reason"], "undecodable");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the claim is about time")]
fn a_payload_made_to_be_slow_is_decoded_in_time() {
    const ROUNDS: usize = 20;
    let same: String = (0..40_000).map(|_| "\"a\":0,").collect();
    let many: String = (0..25_000).map(|key| format!("\"{key}\":0,")).collect();
    let nested = |inner: &str| {
        let open = "{\"k\":0,\"k\":".repeat(60);
        format!("{{\"properties\":{open}{inner}{}}}", "}".repeat(60))
    };
    let payloads = [
        format!("{{{same}\"a\":1}}"),
        format!("{{{many}\"a\":1}}"),
        format!("{{\"properties\":{{{same}\"a\":1}}}}"),
        format!("{{\"properties\":{{{many}\"1\":1}}}}"),
        nested(&format!("{{{many}\"1\":1}}")),
        nested(&format!("\"{}\"", "x".repeat(200_000))),
        format!("{{\"properties\":{}", "{\"a\":".repeat(50_000)),
        format!("{{\"properties\":{}", "[".repeat(200_000)),
        format!("{{\"timestamp\":{}}}", "9".repeat(200_000)),
        format!("{{\"timestamp\":1e{}}}", "9".repeat(200_000)),
        format!("{{\"messageId\":\"{}\"}}", "\\u0041".repeat(40_000)),
    ];
    let started = Instant::now();
    let mut undecodable = 0;
    for _ in 0..ROUNDS {
        for payload in &payloads {
            let said = explainer().message("/p/d/properties/report", payload.as_bytes(), None, &Nobody).json();
            undecodable += usize::from(said.contains("\"reason\":\"undecodable\""));
        }
    }
    assert_eq!(undecodable, 4 * ROUNDS);
    // An order of magnitude and more above what it takes; a quadratic search takes minutes.
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

#[test]
fn arbitrary_bytes_never_panic_and_always_give_json() {
    let seed = 0x0123_4567_89ab_cdef;
    println!("seed {seed:#x}");
    let mut random = Random::new(seed);
    let suffixes =
        ["properties/report", "read/reply", "event/e", "direct", "child/c/log", "time-sync", "state-check/reply"];
    for _ in 0..50_000 {
        let mut topic = format!("/p/d/{}", suffixes[random.below(suffixes.len())]).into_bytes();
        let mut payload =
            br#"{"messageId":1,"timestamp":"5","success":"true","state":1.5,"properties":{"a":1}}"#.to_vec();
        for bytes in [&mut topic, &mut payload] {
            for _ in 0..random.below(3) {
                let at = random.below(bytes.len());
                bytes[at] = random.next() as u8;
            }
        }
        let topic = String::from_utf8_lossy(&topic);
        parsed(explainer().message(&topic, &payload, None, &Nobody).json().as_bytes());
        parsed(explainer().command(&payload).json().as_bytes());
        let subject = topic.trim_start_matches('/').replace('/', ".");
        drop(Command::from_subject(&subject, &payload));
    }
}

#[test]
fn a_timestamp_at_the_edge_of_64_bits_keeps_its_value_and_takes_the_time_of_receipt() {
    for timestamp in [i64::MIN, i64::MAX, -62_135_596_800_001, 253_402_300_800_000] {
        let payload = format!("{{\"timestamp\":{timestamp}}}");
        let envelope = parsed(&record(&mut by_subject(Mode::Structured), "/p/d/properties/report", &payload).payload);
        assert_eq!(envelope["data"]["timestamp"], timestamp);
        assert_eq!(envelope["time"], envelope["recordedtime"]);
    }
    let Ok(Upward::Message(route)) = parse_up("/p/d/properties/report", "p", "d") else { panic!("a message") };
    for beyond in ["9223372036854775808", "-9223372036854775809", "1e19"] {
        assert!(decode(&route, format!("{{\"timestamp\":{beyond}}}").as_bytes(), NOW_MS).is_err(), "{beyond}");
    }
}
