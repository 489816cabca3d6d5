//! Commands that come to nothing, and how the caller hears of it.

use serde_json::json;

use crate::Stage;
use crate::command::{command, expect_outcome};
use crate::support::packet;

const READ: &str = r#""properties":["sn"]"#;

/// Takes the failure of a READ_PROPERTY off stdout.
fn expect_failure(stage: &mut Stage, correlation: &str, code: &str) {
    let outcome = expect_outcome(stage, "device.properties.read.reply", correlation);
    assert_eq!(outcome["origin"], "bridge", "{outcome}");
    let data = &outcome["data"];
    assert_eq!((&data["success"], &data["code"]), (&json!(false), &json!(code)), "{outcome}");
    assert!(data["message"].as_str().is_some_and(|message| !message.is_empty()), "{outcome}");
    assert_eq!(data["messageType"], "READ_PROPERTY_REPLY");
}

#[test]
fn a_device_that_is_not_connected_is_offline() {
    let mut stage = Stage::new();
    stage.bridge.type_line(&command("READ_PROPERTY", &format!(r#""messageId":"m1",{READ}"#)));
    expect_failure(&mut stage, "m1", "CLIENT_OFFLINE");

    let mut wire = stage.connect1();
    wire.send(&packet::DISCONNECT);
    stage.bridge.expect("device.offline", "device1");
    stage.bridge.type_line(&command("READ_PROPERTY", &format!(r#""messageId":"m2",{READ}"#)));
    expect_failure(&mut stage, "m2", "CLIENT_OFFLINE");
}

#[test]
fn a_silent_device_times_out_and_its_late_reply_is_an_ordinary_message() {
    let mut stage = Stage::with(|settings| settings.text("commands.timeout", "400ms"));
    let mut wire = stage.connect1();
    stage.bridge.type_line(&command("READ_PROPERTY", &format!(r#""messageId":"m1",{READ}"#)));
    expect_failure(&mut stage, "m1", "TIME_OUT");
    // The header is stronger than the default.
    let members = format!(r#""messageId":"m2",{READ},"headers":{{"timeout":100}}"#);
    stage.bridge.type_line(&command("READ_PROPERTY", &members));
    expect_failure(&mut stage, "m2", "TIME_OUT");

    let late = wire.next_publish();
    wire.reply(&late, r#""properties":{"sn":1}"#);
    let reply = stage.bridge.expect("device.properties.read.reply", "device1");
    assert_eq!((&reply["origin"], reply.get("correlationid")), (&json!("device"), None));
}

#[test]
fn a_reply_that_cannot_be_read_ends_its_command_at_once_with_the_mistake() {
    let mut stage = Stage::with(|settings| settings.text("commands.timeout", "60s"));
    let mut wire = stage.connect1();
    stage.bridge.type_line(&command("READ_PROPERTY", &format!(r#""messageId":"m1",{READ}"#)));
    let sent = wire.next_publish();
    wire.publish(&format!("{}/reply", sent.topic), r#"{"messageId":"m1","properties":[1]}"#, 0, 0);
    let outcome = expect_outcome(&mut stage, "device.properties.read.reply", "m1");
    assert_eq!((&outcome["origin"], &outcome["data"]["code"]), (&json!("bridge"), &json!("PARAMETER_ERROR")));
    let message = outcome["data"]["message"].as_str().unwrap();
    assert!(message.contains("properties"), "{message}");
    stage.bridge.expect("bridge.rejected", "device1");
}

#[test]
fn a_reply_under_another_message_id_answers_nobody() {
    let mut stage = Stage::with(|settings| settings.text("commands.timeout", "1s"));
    let mut wire = stage.connect1();
    stage.bridge.type_line(&command("READ_PROPERTY", &format!(r#""messageId":"m1",{READ}"#)));
    let sent = wire.next_publish();
    wire.publish(&format!("{}/reply", sent.topic), r#"{"messageId":"other","properties":{"sn":1}}"#, 0, 0);
    let reply = stage.bridge.expect("device.properties.read.reply", "device1");
    assert_eq!((&reply["origin"], reply.get("correlationid")), (&json!("device"), None));
    expect_failure(&mut stage, "m1", "TIME_OUT");
}

#[test]
fn the_same_message_id_twice_in_flight_is_a_mistake_of_the_caller() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    let line = command("READ_PROPERTY", &format!(r#""messageId":"m1",{READ}"#));
    stage.bridge.type_line(&line);
    let sent = wire.next_publish();
    stage.bridge.type_line(&line);
    expect_failure(&mut stage, "m1", "PARAMETER_ERROR");
    // The first one is not harmed, and afterwards the id is free.
    wire.reply(&sent, r#""properties":{"sn":1}"#);
    let outcome = expect_outcome(&mut stage, "device.properties.read.reply", "m1");
    assert_eq!(outcome["origin"], "device");
    stage.bridge.type_line(&line);
    assert_eq!(wire.next_publish().json()["messageId"], "m1");
}

#[test]
fn a_type_that_does_not_go_down_is_unsupported() {
    let mut stage = Stage::new();
    let _wire = stage.connect1();
    for message_type in ["REPORT_PROPERTY", "READ_PROPERTY_REPLY", "UPDATE_TAG", "LOG", "ACKNOWLEDGE"] {
        stage.bridge.type_line(&command(message_type, r#""messageId":"m1""#));
        let outcome = stage.bridge.next_envelope();
        assert_eq!(outcome["correlationid"], "m1", "{outcome}");
        assert_eq!(outcome["origin"], "bridge", "{outcome}");
        let data = &outcome["data"];
        assert_eq!((&data["success"], &data["code"]), (&json!(false), &json!("UNSUPPORTED_MESSAGE")), "{outcome}");
    }
}

#[test]
fn a_line_that_is_no_command_is_told_so_and_the_next_one_works() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    let lines = [
        "nonsense",
        "[]",
        r#"{"messageType":"READ_PROPERTY","properties":["a"]}"#,
        r#"{"productId":"product1","deviceId":"device1"}"#,
    ];
    for line in lines {
        stage.bridge.type_line(line);
        let failed = stage.bridge.next_envelope();
        assert_eq!(failed["type"], "org.jetlinks.bridge.command.failed", "{line}: {failed}");
        assert_eq!(failed["origin"], "bridge");
    }
    for (members, correlation) in
        [(r#""messageId":"m7""#, "m7"), (r#""messageId":7,"headers":{"correlation-id":"c7"}"#, "c7")]
    {
        stage.bridge.type_line(&format!(r#"{{"messageType":"READ_PROPERTY","deviceId":"device1",{members}}}"#));
        let failed = stage.bridge.next_envelope();
        assert_eq!(failed["type"], "org.jetlinks.bridge.command.failed", "{failed}");
        assert_eq!(failed["correlationid"], correlation, "{failed}");
        assert_eq!(
            (&failed["data"]["deviceId"], &failed["data"]["messageType"]),
            (&json!("device1"), &json!("READ_PROPERTY"))
        );
        assert!(failed["data"]["payload_base64"].is_string(), "{failed}");
    }
    stage.bridge.type_line(&command("READ_PROPERTY", &format!(r#""messageId":"m1",{READ}"#)));
    assert_eq!(wire.next_publish().json()["messageId"], "m1");
}

#[test]
fn more_commands_than_a_device_may_have_waiting_are_refused_as_busy() {
    let mut stage = Stage::with(|settings| settings.toml("commands.pending_per_device", "2"));
    let mut wire = stage.connect1();
    for number in 1..=3 {
        stage.bridge.type_line(&command("READ_PROPERTY", &format!(r#""messageId":"m{number}",{READ}"#)));
    }
    expect_failure(&mut stage, "m3", "SYSTEM_BUSY");
    let sent = wire.next_publish();
    wire.reply(&sent, r#""properties":{"sn":1}"#);
    expect_outcome(&mut stage, "device.properties.read.reply", "m1");
    stage.bridge.type_line(&command("READ_PROPERTY", &format!(r#""messageId":"m4",{READ}"#)));
    assert_eq!(wire.next_publish().json()["messageId"], "m2");
    assert_eq!(wire.next_publish().json()["messageId"], "m4");
}

#[test]
fn a_command_that_is_larger_than_all_that_may_wait_for_devices_is_a_mistake_of_the_caller() {
    // A quarter of it, and room for one packet of a device at least: 320 KiB.
    let mut stage = Stage::with(|settings| settings.text("limits.inflight_bytes", "1MiB"));
    let mut wire = stage.connect1();
    let large = |bytes: usize| format!(r#""messageId":"m1","properties":["{}"]"#, "x".repeat(bytes));
    stage.bridge.type_line(&command("READ_PROPERTY", &large(328_000)));
    expect_failure(&mut stage, "m1", "PARAMETER_ERROR");
    stage.bridge.type_line(&command("READ_PROPERTY", &large(300_000)));
    assert_eq!(wire.next_publish().json()["messageId"], "m1");
}

#[test]
fn a_silent_device_delays_no_other() {
    let mut stage = Stage::new();
    let mut silent = stage.connect1();
    let mut quick = stage.connect(&stage.device2.clone());
    for number in 0..20 {
        stage.bridge.type_line(&command("READ_PROPERTY", &format!(r#""messageId":"s{number}",{READ}"#)));
    }
    stage.bridge.type_line(
        r#"{"messageType":"READ_PROPERTY","messageId":"q","productId":"product1","deviceId":"device2","properties":["a"]}"#,
    );
    let sent = quick.next_publish();
    quick.reply(&sent, r#""properties":{"a":1}"#);
    let outcome = stage.bridge.expect("device.properties.read.reply", "device2");
    assert_eq!(outcome["correlationid"], "q");
    assert_eq!(silent.next_publish().json()["messageId"], "s0");
}

#[test]
fn a_command_of_another_product_reaches_nobody() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    stage.bridge.type_line(
        r#"{"messageType":"READ_PROPERTY","messageId":"m1","productId":"product2","deviceId":"device1","properties":["a"]}"#,
    );
    let outcome = stage.bridge.next_envelope();
    assert_eq!((&outcome["data"]["success"], &outcome["correlationid"]), (&json!(false), &json!("m1")), "{outcome}");
    wire.send(&packet::PINGREQ);
    assert_eq!(wire.next_packet().header, 0xD0);
}
