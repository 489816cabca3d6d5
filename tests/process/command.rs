//! Commands that reach their device, and what the caller gets.

use serde_json::{Value, json};

use crate::Stage;
use crate::support::packet::{self, Publish};
use crate::support::registry::now_ms;
use crate::support::wire::Incoming;

/// A command for device1 of product1 with further members.
pub(crate) fn command(message_type: &str, members: &str) -> String {
    format!(r#"{{"messageType":"{message_type}","productId":"product1","deviceId":"device1",{members}}}"#)
}

/// Takes the outcome of the command with that id off stdout.
pub(crate) fn expect_outcome(stage: &mut Stage, kind: &str, correlation: &str) -> Value {
    let outcome = stage.bridge.expect(kind, "device1");
    assert_eq!(outcome["correlationid"], correlation, "{outcome}");
    outcome
}

#[test]
fn read_write_and_invoke_reach_the_device_and_their_replies_come_back_once() {
    let cases = [
        (
            "READ_PROPERTY",
            r#""properties":["sn"]"#,
            "properties/read",
            json!({"properties": ["sn"]}),
            r#""success":true,"properties":{"sn":"s1"}"#,
            json!({"properties": {"sn": "s1"}}),
        ),
        (
            "WRITE_PROPERTY",
            r#""properties":{"color":"red"}"#,
            "properties/write",
            json!({"properties": {"color": "red"}}),
            r#""properties":{"color":"red"}"#,
            json!({"properties": {"color": "red"}}),
        ),
        (
            "INVOKE_FUNCTION",
            r#""functionId":"play","inputs":{"text":"hi"}"#,
            "function/invoke",
            json!({"function": "play", "functionId": "play", "inputs": [{"name": "text", "value": "hi"}]}),
            r#""output":{"ok":1},"functionId":"play""#,
            json!({"output": {"ok": 1}, "functionId": "play"}),
        ),
    ];
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    for (message_type, members, suffix, body, reply, data) in cases {
        let before = now_ms();
        stage.bridge.type_line(&command(message_type, &format!(r#""messageId":"m1",{members}"#)));
        let sent = wire.next_publish();
        assert_eq!((sent.topic.as_str(), sent.qos), (stage.device1.topic(suffix).as_str(), 0));
        let mut sent_body = sent.json();
        let sent_members = sent_body.as_object_mut().unwrap();
        assert!(sent_members.remove("timestamp").is_some_and(|time| time.as_i64().unwrap() >= before));
        let mut expected = json!({"messageType": message_type, "messageId": "m1", "deviceId": "device1"});
        expected.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        assert_eq!(sent_body, expected);

        wire.reply(&sent, reply);
        let kind = format!("device.{}.reply", suffix.replace('/', "."));
        let outcome = expect_outcome(&mut stage, &kind, "m1");
        assert_eq!(outcome["origin"], "device");
        for (name, value) in data.as_object().unwrap() {
            assert_eq!(&outcome["data"][name], value, "{outcome}");
        }
        // Printed once, as the outcome: the next line is another message.
        wire.publish(&stage.device1.topic("tags"), r#"{"tags":{"a":1}}"#, 0, 0);
        stage.bridge.expect("device.tags", "device1");
    }
}

#[test]
fn a_reply_that_says_failure_keeps_the_devices_own_code_and_message() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    stage.bridge.type_line(&command("WRITE_PROPERTY", r#""messageId":"m1","properties":{"a":1}"#));
    let sent = wire.next_publish();
    wire.reply(&sent, r#""success":false,"code":"E42","message":"stuck""#);
    let outcome = expect_outcome(&mut stage, "device.properties.write.reply", "m1");
    assert_eq!(outcome["origin"], "device");
    let data = &outcome["data"];
    assert_eq!((&data["success"], &data["code"], &data["message"]), (&json!(false), &json!("E42"), &json!("stuck")));
}

#[test]
fn the_old_spelling_of_a_write_reply_is_understood() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    stage.bridge.type_line(&command("WRITE_PROPERTY", r#""messageId":"m1","properties":{"a":1}"#));
    let sent = wire.next_publish();
    let spelled = Publish { topic: stage.device1.topic("properties/wirte"), ..sent };
    wire.reply(&spelled, r#""properties":{"a":1}"#);
    expect_outcome(&mut stage, "device.properties.write.reply", "m1");
}

#[test]
fn what_a_command_leaves_out_is_filled_in() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    stage.bridge.type_line(&command("READ_PROPERTY", r#""properties":["sn"]"#));
    let sent = wire.next_publish();
    let message_id = sent.json()["messageId"].as_str().unwrap().to_owned();
    assert!(message_id.len() <= 19 && message_id.bytes().all(|byte| byte.is_ascii_digit()), "{message_id}");
    wire.reply(&sent, r#""properties":{"sn":1}"#);
    expect_outcome(&mut stage, "device.properties.read.reply", &message_id);
}

#[test]
fn a_correlation_id_of_the_caller_marks_the_outcome() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    let members = r#""messageId":"m1","properties":["sn"],"headers":{"correlation-id":"c7"}"#;
    stage.bridge.type_line(&command("READ_PROPERTY", members));
    let sent = wire.next_publish();
    wire.reply(&sent, r#""properties":{"sn":1}"#);
    expect_outcome(&mut stage, "device.properties.read.reply", "c7");
}

#[test]
fn a_command_has_the_qos_of_the_matching_subscription_and_at_most_1() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    wire.send(&packet::subscribe(1, &[("/product1/device1/properties/+", 2), ("/product1/device1/function/#", 0)]));
    assert_eq!(wire.next_packet().body, [0, 1, 1, 0]);

    stage.bridge.type_line(&command("READ_PROPERTY", r#""messageId":"m1","properties":["sn"]"#));
    let sent = wire.next_publish();
    assert_eq!(sent.qos, 1);
    wire.send(&packet::puback(sent.id.unwrap()));
    wire.reply(&sent, r#""properties":{"sn":1}"#);
    expect_outcome(&mut stage, "device.properties.read.reply", "m1");

    stage.bridge.type_line(&command("INVOKE_FUNCTION", r#""messageId":"m2","functionId":"f""#));
    assert_eq!(wire.next_publish().qos, 0);

    wire.send(&packet::unsubscribe(2, &["/product1/device1/properties/+"]));
    assert_eq!(wire.next_packet().header, 0xB0);
    stage.bridge.type_line(&command("READ_PROPERTY", r#""messageId":"m3","properties":["sn"]"#));
    assert_eq!(wire.next_publish().qos, 0);
}

#[test]
fn an_async_command_is_answered_when_the_device_has_acknowledged_it() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    wire.send(&packet::subscribe(1, &[("/product1/device1/#", 1)]));
    assert_eq!(wire.next_packet().header, 0x90);
    stage
        .bridge
        .type_line(&command("READ_PROPERTY", r#""messageId":"m1","properties":["a"],"headers":{"async":true}"#));
    let sent = wire.next_publish();
    // Written before the acknowledgement, so it must stand before the outcome on stdout.
    wire.publish_acknowledged(&stage.device1.topic("tags"), r#"{"tags":{"a":1}}"#, 9);
    stage.bridge.expect("device.tags", "device1");
    wire.send(&packet::puback(sent.id.unwrap()));
    let outcome = expect_outcome(&mut stage, "device.properties.read.reply", "m1");
    assert_eq!(outcome["origin"], "bridge");
    let data = &outcome["data"];
    assert_eq!((&data["success"], &data["code"]), (&json!(true), &json!("REQUEST_HANDLING")), "{outcome}");

    // Its reply is then a message like any other.
    wire.reply(&sent, r#""properties":{"a":1}"#);
    let reply = stage.bridge.expect("device.properties.read.reply", "device1");
    assert_eq!((&reply["origin"], &reply["correlationid"]), (&json!("device"), &Value::Null));
}

#[test]
fn a_command_to_send_and_forget_is_answered_as_soon_as_it_is_written() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    wire.send(&packet::subscribe(1, &[("/product1/device1/#", 1)]));
    assert_eq!(wire.next_packet().header, 0x90);
    let members = r#""messageId":"m1","properties":["a"],"headers":{"sendAndForget":true}"#;
    stage.bridge.type_line(&command("READ_PROPERTY", members));
    let outcome = expect_outcome(&mut stage, "device.properties.read.reply", "m1");
    assert_eq!((&outcome["data"]["success"], &outcome["data"]["code"]), (&json!(true), &json!("REQUEST_HANDLING")));
    assert_eq!(wire.next_publish().qos, 1);
}

#[test]
fn direct_goes_down_as_raw_bytes_and_comes_up_as_base64() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    stage.bridge.type_line(&command("DIRECT", r#""messageId":"m1","payload":"AAEC/w==""#));
    let sent = wire.next_publish();
    assert_eq!((sent.topic.as_str(), sent.payload.as_slice()), ("/product1/device1/direct", &[0, 1, 2, 0xFF][..]));
    let outcome = stage.bridge.next_envelope();
    assert_eq!((&outcome["correlationid"], &outcome["data"]["success"]), (&json!("m1"), &json!(true)), "{outcome}");

    wire.send(&packet::publish(&stage.device1.topic("direct"), &[0xFF, 0], 0, 0));
    let envelope = stage.bridge.expect("device.direct", "device1");
    assert_eq!(envelope["data"]["payload"], "/wA=");
}

#[test]
fn a_disconnect_closes_the_session_and_is_answered_by_the_bridge() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    stage.bridge.type_line(&command("DISCONNECT", r#""messageId":"m1""#));
    assert_eq!(wire.next(), Incoming::Closed);
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let envelope = stage.bridge.next_envelope();
        let kind = envelope["type"].as_str().unwrap().to_owned();
        match kind.as_str() {
            "org.jetlinks.device.disconnect.reply" => {
                assert_eq!((&envelope["correlationid"], &envelope["data"]["success"]), (&json!("m1"), &json!(true)));
            }
            _ => assert_eq!(envelope["data"]["headers"]["cause"], "kicked", "{envelope}"),
        }
        kinds.push(kind);
    }
    kinds.sort();
    assert_eq!(kinds, ["org.jetlinks.device.disconnect.reply", "org.jetlinks.device.offline"]);
}

#[test]
fn a_firmware_upgrade_is_answered_by_its_first_progress() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    stage.bridge.type_line(&command("UPGRADE_FIRMWARE", r#""messageId":"m1","url":"u","version":"1""#));
    let sent = wire.next_publish();
    let body = r#"{"messageId":"m1","progress":10}"#;
    wire.publish(&format!("{}/progress", sent.topic), body, 0, 0);
    let outcome = expect_outcome(&mut stage, "device.firmware.upgrade.progress", "m1");
    assert_eq!((&outcome["data"]["progress"], &outcome["data"]["complete"]), (&json!(10), &json!(false)));
}

#[test]
fn commands_go_out_in_the_order_given_without_waiting_for_replies() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    for number in 0..50 {
        stage.bridge.type_line(&command("READ_PROPERTY", &format!(r#""messageId":"m{number}","properties":["a"]"#)));
    }
    let sent: Vec<Publish> = (0..50).map(|_| wire.next_publish()).collect();
    let order: Vec<String> = sent.iter().map(|sent| sent.json()["messageId"].as_str().unwrap().to_owned()).collect();
    assert_eq!(order, (0..50).map(|number| format!("m{number}")).collect::<Vec<_>>());
    for (number, command) in sent.iter().enumerate().rev() {
        wire.reply(command, r#""properties":{"a":1}"#);
        expect_outcome(&mut stage, "device.properties.read.reply", &format!("m{number}"));
    }
}
