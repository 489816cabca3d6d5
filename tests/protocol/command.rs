//! Commands: addresses, headers, refusals, packets.

use jetlinks_bridge::protocol::command::{Command, CommandBody, CommandError};
use jetlinks_bridge::protocol::topic::{MessageType, TOPIC_BYTES_MAX};
use serde_json::json;

use crate::support::parsed;

fn by_json(fields: &str) -> Result<Command, CommandError> {
    let comma = if fields.is_empty() { "" } else { "," };
    Command::from_json(format!(r#"{{"productId":"p","deviceId":"d"{comma}{fields}}}"#).as_bytes())
}

fn read_property(fields: &str) -> Result<Command, CommandError> {
    by_json(&format!(r#""messageType":"READ_PROPERTY",{fields}"#))
}

fn body(command: &Command) -> String {
    String::from_utf8(command.downlink("7", 8).body).expect("UTF-8")
}

#[test]
fn a_packet_begins_with_type_id_time_and_device_and_keeps_the_callers_order() {
    let command =
        read_property(r#""z":1.50,"properties":["sn"],"headers":{"b":1,"a":null},"unknown":null,"timestamp":5"#);
    let command = command.expect("a command");
    assert_eq!(
        body(&command),
        "{\"messageType\":\"READ_PROPERTY\",\"messageId\":\"7\",\"timestamp\":8,\"deviceId\":\"d\",\"z\":1.50,\
         \"properties\":[\"sn\"],\"headers\":{\"b\":1,\"a\":null},\"unknown\":null}"
    );
    assert_eq!(command.timestamp, Some(5));
    assert_eq!(command.downlink("7", 8).topic, "/p/d/properties/read");
}

#[test]
fn a_subject_wins_over_what_the_body_says() {
    let payload =
        br#"{"messageType":"LOG","productId":"x","deviceId":"y","gatewayId":"z","messageId":12,"properties":[]}"#;
    let command = Command::from_subject("p%2E1.g.child.c1.child.c%202.properties.read", payload).expect("a command");
    assert_eq!((command.product.as_str(), command.device.as_str()), ("p.1", "g"));
    assert_eq!(command.children, ["c1", "c 2"]);
    assert_eq!(command.message_type, MessageType::ReadProperty);
    assert_eq!(command.message_id.as_deref(), Some("12"));
    assert_eq!(command.topic(), "/p.1/g/child/c1/child/c 2/properties/read");
    let body = parsed(&command.downlink("12", 8).body);
    assert_eq!(
        body,
        json!({"messageType": "READ_PROPERTY", "messageId": "12", "timestamp": 8, "deviceId": "c 2", "properties": []})
    );
}

#[test]
fn a_command_whose_topic_has_more_than_512_bytes_is_a_parameter_error() {
    let child = |bytes: usize| format!(".child.{}", "c".repeat(bytes));
    let of = |bytes: usize| {
        // Each child takes 7 bytes and its id.
        let children = [child(64), child(64), child(64), child(64), child(64), child(64)].concat() + &child(bytes);
        Command::from_subject(&format!("p.d{children}.state-check"), b"")
    };
    let longest = of(63).map(|command| (command.topic().len(), command.topic_bytes()));
    assert_eq!(longest, Ok((TOPIC_BYTES_MAX, TOPIC_BYTES_MAX)));
    assert!(matches!(of(64), Err(CommandError::Parameter(..))));
    for message_type in MessageType::all().filter(|message_type| message_type.goes_down()) {
        for address in ["p.d", "p%2E1.g.child.c%202", "p.g.child.c1.child.c2"] {
            let subject = format!("{address}.{}", message_type.dotted());
            let command = Command::from_subject(&subject, br#"{"functionId":"f"}"#).expect("a command");
            assert_eq!(command.topic_bytes(), command.topic().len(), "{subject}");
        }
    }
}

#[test]
fn an_empty_payload_stands_for_an_empty_object() {
    let command = Command::from_subject("p.d.firmware.read", b"").expect("a command");
    assert_eq!(command.body, CommandBody::Members(String::new()));
    let device_named_child = Command::from_subject("p.child.state-check", b"").expect("a command");
    assert_eq!(device_named_child.topic(), "/p/child/state-check");
}

#[test]
fn what_names_no_device_or_type_is_unreadable() {
    let subjects =
        ["", "p", "p.d", "p.d.child", "p.d.child.c", ".d.properties.read", "p..properties.read", "p.%zz.log"];
    for subject in subjects.into_iter().chain(["p.a%2Fb.properties.read", "p.d.child.%2B.properties.read"]) {
        let read = Command::from_subject(subject, b"");
        assert!(matches!(read, Err(CommandError::Unreadable(..))), "{subject} {read:?}");
    }
    assert!(matches!(Command::from_subject("p.d.properties.read", b"[]"), Err(CommandError::Unreadable(..))));
    for json in [
        "",
        "[]",
        r#"{"productId":"p","messageType":"LOG"}"#,
        r#"{"deviceId":"d","messageType":"LOG"}"#,
        r#"{"productId":"p","deviceId":"d"}"#,
        r#"{"productId":"p","deviceId":"","messageType":"READ_PROPERTY"}"#,
        r#"{"productId":"p","deviceId":{},"messageType":"READ_PROPERTY"}"#,
        r#"{"productId":"p","deviceId":"a/b","messageType":"READ_PROPERTY"}"#,
        r##"{"productId":"p","deviceId":"d","gatewayId":"#","messageType":"READ_PROPERTY"}"##,
    ] {
        let read = Command::from_json(json.as_bytes());
        assert!(matches!(read, Err(CommandError::Unreadable(..))), "{json} {read:?}");
    }
}

#[test]
fn what_does_not_go_down_is_unsupported_and_keeps_its_identity() {
    for subject in ["p.d.properties.report", "p.d.no.such", "p.d.event.e", "p.d.acknowledge"] {
        let read = Command::from_subject(subject, br#"{"messageId":"m","headers":{"correlation-id":"c"}}"#);
        let Err(CommandError::Unsupported(identity, _)) = read else { panic!("{subject} {read:?}") };
        assert_eq!((identity.about(), identity.correlation(), identity.message_type), ("d", "c", None));
    }
    for name in ["EVENT", "ACKNOWLEDGE", "CHILD", "read_property"] {
        let read = by_json(&format!(r#""messageType":"{name}","messageId":"m""#));
        let Err(CommandError::Unsupported(identity, text)) = read else { panic!("{name} {read:?}") };
        assert_eq!((identity.correlation(), identity.reply_type()), ("m", MessageType::Acknowledge));
        assert!(text.contains(name), "{text}");
    }
}

#[test]
fn a_field_of_the_wrong_type_is_a_parameter_error_that_keeps_its_identity() {
    let rows = [
        ("READ_PROPERTY", r#""properties":{}"#, "properties is not a list"),
        ("WRITE_PROPERTY", r#""properties":[]"#, "properties is not an object"),
        ("INVOKE_FUNCTION", r#""inputs":[]"#, "functionId is missing"),
        ("INVOKE_FUNCTION", r#""functionId":"","inputs":[]"#, "functionId is missing"),
        ("INVOKE_FUNCTION", r#""functionId":"f","function":"g""#, "function and functionId differ"),
        ("INVOKE_FUNCTION", r#""functionId":"f","inputs":"x""#, "inputs is not a list"),
        ("UPGRADE_FIRMWARE", r#""size":"x""#, "size is not a whole number of 64 bits"),
        ("READ_COLLECTOR_DATA", r#""addresses":1"#, "addresses is not a list"),
        ("READ_PROPERTY", r#""timestamp":"yesterday""#, "timestamp is not a whole number of 64 bits"),
        ("READ_PROPERTY", r#""headers":[]"#, "headers is not an object"),
        ("READ_PROPERTY", r#""headers":{"timeout":"soon"}"#, "header timeout is not a whole number of 64 bits"),
        ("READ_PROPERTY", r#""headers":{"timeout":-1}"#, "header timeout is less than 1 ms"),
        ("READ_PROPERTY", r#""headers":{"timeout":0}"#, "header timeout is less than 1 ms"),
        ("READ_PROPERTY", r#""headers":{"timeout":"0"}"#, "header timeout is less than 1 ms"),
        ("READ_PROPERTY", r#""headers":{"timeout":0.9}"#, "header timeout is less than 1 ms"),
        ("READ_PROPERTY", r#""headers":{"timeout":1e20}"#, "header timeout is not a whole number of 64 bits"),
        ("READ_PROPERTY", r#""headers":{"timeout":""}"#, "header timeout is not a whole number of 64 bits"),
        ("READ_PROPERTY", r#""headers":{"async":"yes"}"#, "header async is not a boolean"),
        ("DIRECT", r#""x":1"#, "payload is missing"),
        ("DIRECT", r#""payload":{}"#, "payload is not a text"),
    ];
    for (name, fields, expected) in rows {
        let read = by_json(&format!(r#""messageType":"{name}",{fields},"messageId":"m""#));
        let Err(CommandError::Parameter(identity, text)) = read else { panic!("{name} {fields} {read:?}") };
        assert_eq!(text, expected);
        assert_eq!(identity.message_id.as_deref(), Some("m"));
        assert_eq!(identity.message_type.map(MessageType::name), Some(name));
    }
    let read = by_json(r#""messageType":"READ_PROPERTY","messageId":{}"#);
    assert!(matches!(read, Err(CommandError::Parameter(identity, _)) if identity.message_id.is_none()));
}

#[test]
fn ids_of_the_caller_have_at_most_128_bytes() {
    let id = "é".repeat(64);
    let fits = format!(r#""messageId":"{id}","headers":{{"correlation-id":"{id}"}}"#);
    assert_eq!(read_property(&fits).expect("a command").correlation_id.as_deref(), Some(&*id));
    let read = read_property(&format!(r#""messageId":"{id}x","headers":{{"correlation-id":"c"}}"#));
    let Err(CommandError::Parameter(identity, text)) = read else { panic!("{read:?}") };
    assert_eq!((text.as_str(), identity.correlation()), ("messageId has more than 128 bytes", "c"));
    assert_eq!(identity.message_id, None, "it is not kept");
    let read = read_property(&format!(r#""messageId":"m","headers":{{"correlation-id":"{id}x"}}"#));
    let Err(CommandError::Parameter(identity, text)) = read else { panic!("{read:?}") };
    assert_eq!((text.as_str(), identity.correlation()), ("header correlation-id has more than 128 bytes", "m"));
}

#[test]
fn headers_steer_the_command_and_stay_in_its_packet() {
    let headers = r#"{"timeout":"2500","async":"TRUE","sendAndForget":1,"correlation-id":5,"x":[1, 2],"#.to_owned()
        + r#""traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}"#;
    let command = read_property(&format!(r#""headers":{headers}"#)).expect("a command");
    assert_eq!(command.timeout_ms, Some(2500));
    assert!(command.is_async && command.send_and_forget);
    assert_eq!(command.correlation_id.as_deref(), Some("5"));
    assert!(command.trace.is_some_and(|trace| trace.sampled));
    assert_eq!(command.identity("7").correlation(), "5");
    assert!(body(&command).contains(&headers));
    let bare = read_property(r#""headers":{"timeout":null,"async":null,"correlation-id":""}"#).expect("a command");
    assert_eq!((bare.timeout_ms, bare.is_async, bare.identity("7").correlation()), (None, false, "7"));
}

#[test]
fn a_traceparent_that_is_none_never_makes_a_command_wrong() {
    for value in ["\"t\"", "\"\"", "7", "null", "true", "{}", "[1]", "\"00-0-0-01\""] {
        let command = read_property(&format!(r#""headers":{{"traceparent":{value}}}"#)).expect("a command");
        assert_eq!(command.trace, None, "{value}");
    }
}

#[test]
fn a_functions_inputs_become_the_list_and_its_name_is_sent_twice() {
    let rows = [
        (
            r#""function":"f","inputs":{"a":1.0,"b\"":{"x":1,"x":2}}"#,
            r#"[{"name":"a","value":1.0},{"name":"b\"","value":{"x":2}}]"#,
        ),
        (r#""functionId":"f","inputs":{}"#, "[]"),
        (r#""functionId":"f","function":"f","inputs":null"#, "[]"),
        (r#""functionId":"f","inputs":[{"name":"a"},1]"#, r#"[{"name":"a"},1]"#),
    ];
    for (fields, inputs) in rows {
        let command = by_json(&format!(r#""messageType":"INVOKE_FUNCTION",{fields}"#)).expect(fields);
        let body = body(&command);
        assert!(body.contains(&format!(r#""inputs":{inputs}"#)), "{body}");
        assert!(body.contains(r#""function":"f","functionId":"f""#), "{body}");
    }
}

#[test]
fn direct_goes_down_as_raw_bytes() {
    for payload in ["AP8K", "AP8KAQ==", "AP8KAQ", r"AP\u0038K"] {
        let command = by_json(&format!(r#""messageType":"DIRECT","gatewayId":"g","payload":"{payload}""#));
        let packet = command.expect(payload).downlink("7", 8);
        assert_eq!(packet.topic, "/p/g/child/d/direct");
        assert!(packet.body.starts_with(b"\x00\xff\x0a"), "{payload}");
    }
    let command = Command::from_subject("p.d.direct", b"\xff\x00").expect("a command");
    assert_eq!(command.downlink("7", 8).body, b"\xff\x00");
    assert!(matches!(by_json(r#""messageType":"DIRECT","payload":"?""#), Err(CommandError::Parameter(..))));
}

#[test]
fn disconnect_closes_the_connected_device_and_is_published_for_a_child() {
    assert!(by_json(r#""messageType":"DISCONNECT""#).expect("a command").closes());
    assert!(by_json(r#""messageType":"DISCONNECT","gatewayId":"d""#).expect("a command").closes());
    assert!(by_json(r#""messageType":"DISCONNECT","gatewayId":"""#).expect("a command").closes());
    assert!(!by_json(r#""messageType":"DISCONNECT","gatewayId":"g""#).expect("a command").closes());
    assert!(!read_property(r#""x":1"#).expect("a command").closes());
}
