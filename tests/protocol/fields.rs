//! Every field of every message that goes up: what it may hold, what it becomes, what it defaults to.

use jetlinks_bridge::protocol::envelope::Mode;
use jetlinks_bridge::protocol::message::{Undecodable, decode, message_id, time_sync_answer};
use jetlinks_bridge::protocol::topic::{Upward, parse_up};
use serde_json::{Value, json};

use crate::support::{NOW_MS, by_subject, parsed, record};

const TEXT: &[(&str, Option<&str>)] = &[
    (r#""a""#, Some(r#""a""#)),
    (r#""""#, Some(r#""""#)),
    ("1.50", Some(r#""1.50""#)),
    ("-2E+3", Some(r#""-2E+3""#)),
    ("true", Some(r#""true""#)),
    ("[]", None),
    ("{}", None),
];
const NUMBER: &[(&str, Option<&str>)] = &[
    ("7", Some("7")),
    ("-7.9", Some("-7")),
    ("7e2", Some("700")),
    (r#""-7""#, Some("-7")),
    (r#""7.0""#, None),
    (r#""""#, None),
    ("true", None),
    ("[]", None),
    ("9223372036854775808", None),
];
const BOOL: &[(&str, Option<&str>)] = &[
    ("true", Some("true")),
    ("false", Some("false")),
    (r#""TrUe""#, Some("true")),
    (r#""f\u0061lse""#, Some("false")),
    (r#""""#, Some("false")),
    ("null", Some("false")),
    ("0", Some("false")),
    ("-3", Some("true")),
    ("123456789012345678901234567890", Some("true")),
    ("1.0", None),
    ("1e1", None),
    (r#""1""#, Some("true")),
    (r#""0""#, Some("false")),
    (r#""-000""#, Some("false")),
    (r#""-2""#, Some("true")),
    (r#""123456789012345678901234567890""#, Some("true")),
    (r#""1.0""#, None),
    (r#""1e1""#, None),
    (r#""+1""#, None),
    (r#"" 1""#, None),
    (r#""-""#, None),
    (r#""yes""#, None),
    ("{}", None),
];
const NUMBERS: &[(&str, Option<&str>)] = &[
    ("{}", Some("{}")),
    (r#"{"a":1601196762389,"b":-7}"#, Some(r#"{"a":1601196762389,"b":-7}"#)),
    (r#"{"a":"7","b":-7.9,"c":7e2,"d":null,"e":-0}"#, Some(r#"{"a":7,"b":-7,"c":700,"e":0}"#)),
    (r#"{"a":"x","\u0061":2}"#, Some(r#"{"a":2}"#)),
    (r#"{"a":null}"#, Some("{}")),
    (r#"{"a":1,"b":"soon"}"#, None),
    (r#"{"a":""}"#, None),
    (r#"{"a":true}"#, None),
    (r#"{"a":{}}"#, None),
    (r#"{"a":9223372036854775808}"#, None),
    ("[]", None),
    ("1", None),
    (r#""{}""#, None),
];
const TEXTS: &[(&str, Option<&str>)] = &[
    ("{}", Some("{}")),
    (r#"{"a":"ok","b":""}"#, Some(r#"{"a":"ok","b":""}"#)),
    (r#"{"a":1.50,"b":true,"c":null,"d":"x"}"#, Some(r#"{"a":"1.50","b":"true","d":"x"}"#)),
    ("{\n\"a\":\n1}", Some(r#"{"a":"1"}"#)),
    (r#"{"a":{},"a":2}"#, Some(r#"{"a":"2"}"#)),
    (r#"{"a":[]}"#, None),
    (r#"{"a":"ok","b":{}}"#, None),
    ("[]", None),
    (r#""ok""#, None),
];
const OBJECT: &[(&str, Option<&str>)] =
    &[(r#"{"a":null}"#, Some(r#"{"a":null}"#)), ("[]", None), ("1", None), (r#""{}""#, None), ("true", None)];
const ARRAY: &[(&str, Option<&str>)] = &[("[1,null]", Some("[1,null]")), ("{}", None), ("1", None), (r#""[]""#, None)];
const ANY: &[(&str, Option<&str>)] =
    &[("[1]", Some("[1]")), (r#"{"a":1.0}"#, Some(r#"{"a":1.0}"#)), ("1.0", Some("1.0")), ("false", Some("false"))];

type Field = (&'static str, &'static [(&'static str, Option<&'static str>)]);

/// Suffix, its fields, and what is written when the body is empty.
fn table() -> Vec<(&'static str, Vec<Field>, Value)> {
    let properties: Vec<Field> =
        vec![("properties", OBJECT), ("propertySourceTimes", NUMBERS), ("propertyStates", TEXTS)];
    let reply: Vec<Field> = vec![("success", BOOL), ("message", TEXT)];
    let firmware: Vec<Field> = vec![("version", TEXT), ("properties", OBJECT)];
    let success = json!({"success": true});
    let progress = vec![
        ("progress", NUMBER),
        ("complete", BOOL),
        ("version", TEXT),
        ("success", BOOL),
        ("errorReason", TEXT),
        ("firmwareId", TEXT),
    ];
    let state = [vec![("state", NUMBER)], reply.clone()].concat();
    vec![
        ("properties/report", properties.clone(), json!({})),
        ("properties/read/reply", [properties.clone(), reply.clone()].concat(), success.clone()),
        ("properties/write/reply", [properties, reply.clone()].concat(), success.clone()),
        (
            "function/invoke/reply",
            [vec![("output", ANY), ("functionId", TEXT)], reply.clone()].concat(),
            success.clone(),
        ),
        ("event/e", vec![("data", ANY)], json!({"event": "e"})),
        ("register", vec![], json!({})),
        ("unregister", vec![], json!({})),
        ("online", vec![], json!({})),
        ("offline", vec![], json!({})),
        ("tags", vec![("tags", OBJECT)], json!({"tags": {}})),
        ("log", vec![("log", TEXT)], json!({})),
        ("metadata/derived", vec![("metadata", TEXT), ("all", BOOL)], json!({"all": false})),
        ("firmware/upgrade/reply", reply.clone(), success.clone()),
        ("firmware/upgrade/progress", progress, json!({"progress": 0, "complete": false, "success": false})),
        ("firmware/pull", vec![("currentVersion", TEXT), ("requestVersion", TEXT)], json!({})),
        ("firmware/report", firmware.clone(), json!({})),
        ("firmware/read/reply", [firmware, reply.clone()].concat(), success.clone()),
        ("disconnect/reply", reply.clone(), success.clone()),
        ("state-check/reply", state, json!({"state": 0, "success": true})),
        ("collector/report", vec![("data", ARRAY)], json!({})),
        ("collector/read/reply", [vec![("data", ARRAY)], reply.clone()].concat(), success.clone()),
        ("collector/write/reply", [vec![("data", ARRAY)], reply].concat(), success),
    ]
}

#[test]
fn every_field_holds_its_type_and_nothing_else() {
    for (suffix, fields, _) in table() {
        let topic = format!("/p/d/{suffix}");
        let common: [Field; 3] = [("messageId", TEXT), ("code", TEXT), ("headers", OBJECT)];
        for (name, rows) in fields.into_iter().chain(common) {
            for (value, expected) in rows {
                let payload = format!("{{\"{name}\":{value}}}");
                let Ok(Upward::Message(route)) = parse_up(&topic, "p", "d") else { panic!("{topic}") };
                let decoded = decode(&route, payload.as_bytes(), NOW_MS);
                match expected {
                    Some(expected) => {
                        assert!(decoded.is_ok(), "{suffix} {payload} {decoded:?}");
                        let envelope = parsed(&record(&mut by_subject(Mode::Structured), &topic, &payload).payload);
                        assert_eq!(envelope["data"][name], parsed(expected.as_bytes()), "{suffix} {payload}");
                    }
                    None => match decoded {
                        Err(Undecodable::Field { name: wrong, .. }) => assert_eq!(wrong, name, "{suffix} {payload}"),
                        other => panic!("{suffix} {payload} {other:?}"),
                    },
                }
            }
        }
    }
}

#[test]
fn an_empty_body_and_one_of_nulls_get_the_defaults_alone() {
    for (suffix, fields, defaults) in table() {
        let nulls: Vec<String> = fields.iter().map(|(name, _)| format!("\"{name}\":null")).collect();
        for (payload, is_null) in [("{}".to_owned(), false), (format!("{{{}}}", nulls.join(",")), true)] {
            let topic = format!("/p/d/{suffix}");
            let envelope = parsed(&record(&mut by_subject(Mode::Structured), &topic, &payload).payload);
            let mut data = envelope["data"].as_object().expect("an object").clone();
            assert!(data.remove("messageType").is_some());
            assert_eq!((data.remove("deviceId"), data.remove("timestamp")), (Some(json!("d")), Some(json!(NOW_MS))));
            let mut expected = defaults.clone();
            for (name, rows) in &fields {
                if is_null && *rows == BOOL {
                    expected[*name] = json!(false);
                }
            }
            assert_eq!(Value::Object(data), expected, "{suffix} {payload}");
        }
    }
}

#[test]
fn fields_that_the_message_does_not_have_stay_as_they_are() {
    let unknown = r#"{"x":null,"success":"no","state":{},"log":[1.0],"tags":7,"data":null,"output":null}"#;
    let envelope = parsed(&record(&mut by_subject(Mode::Structured), "/p/d/online", unknown).payload);
    for (name, value) in parsed(unknown.as_bytes()).as_object().expect("an object") {
        assert_eq!(envelope["data"].get(name), Some(value), "{name}");
    }
}

#[test]
fn an_empty_body_stands_for_an_empty_object_only_where_the_topic_says_it_all() {
    let allowed = [
        "online",
        "connected",
        "offline",
        "disconnect",
        "disconnected",
        "register",
        "unregister",
        "firmware/pull",
        "child/c/connected",
        "child-reply/c/disconnect",
    ];
    for suffix in allowed {
        let topic = format!("/p/d/{suffix}");
        let [empty, object] =
            ["", "{}"].map(|body| parsed(&record(&mut by_subject(Mode::Structured), &topic, body).payload));
        assert_eq!((&empty["type"], &empty["data"]), (&object["type"], &object["data"]), "{suffix}");
        assert_ne!(empty["type"], "org.jetlinks.bridge.rejected");
    }
    assert_eq!(time_sync_answer(b"", NOW_MS).expect("an answer"), format!("{{\"timestamp\":{NOW_MS}}}").as_bytes());
    let aliases = ["online", "offline", "register", "unregister", "firmware/pull"];
    for (suffix, ..) in table().into_iter().filter(|(suffix, ..)| !aliases.contains(suffix)) {
        let topic = format!("/p/d/{suffix}");
        let Ok(Upward::Message(route)) = parse_up(&topic, "p", "d") else { panic!("{topic}") };
        assert!(matches!(decode(&route, b"", NOW_MS), Err(Undecodable::Json(_))), "{suffix}");
    }
    for suffix in allowed {
        let topic = format!("/p/d/{suffix}");
        let Ok(Upward::Message(route)) = parse_up(&topic, "p", "d") else { panic!("{topic}") };
        assert!(decode(&route, b" ", NOW_MS).is_err(), "a blank is a body, and no object: {suffix}");
    }
}

#[test]
fn the_message_id_of_a_body_is_found_whatever_else_is_wrong_with_it() {
    let rows = [
        (r#"{"messageId":"m1","success":"perhaps"}"#, Some("m1")),
        (r#"{"properties":7,"\u006dessageId":"m\u0031"}"#, Some("m1")),
        (r#"{"messageId":{},"messageId":12.50,"timestamp":"soon"}"#, Some("12.50")),
        (r#"{"messageId":"m1","messageId":null,"timestamp":"soon"}"#, None),
        (r#"{"messageId":"","timestamp":"soon"}"#, None),
        (r#"{"messageId":["m1"]}"#, None),
        (r#"{"timestamp":"soon"}"#, None),
        (r#"{"messageId":"m1"} x"#, None),
        (r#"["messageId"]"#, None),
        ("", None),
    ];
    for (body, expected) in rows {
        assert_eq!(message_id(body.as_bytes()).as_deref(), expected, "{body}");
    }
}
