//! Commands of operators over HTTP, and what others see of them.

use std::thread;

use serde_json::Value;

use crate::Stage;
use crate::command::command;
use crate::support::http;

/// Sends a command from a thread of its own; status and JSON of the answer.
fn post(stage: &Stage, command: String) -> thread::JoinHandle<(u16, Value)> {
    let admin = stage.bridge.admin();
    thread::spawn(move || {
        let answer = http::post(admin, "/api/commands", "", &command).unwrap();
        (answer.status, serde_json::from_str(&answer.body).unwrap())
    })
}

#[test]
fn an_operator_gets_the_reply_of_a_device_and_stdout_has_it_once() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    let asking = post(&stage, command("READ_PROPERTY", r#""messageId":"m1","properties":["sn"]"#));
    let sent = wire.next_publish();
    assert_eq!(sent.topic, stage.device1.topic("properties/read"));
    wire.reply(&sent, r#""success":true,"properties":{"sn":"s1","t":1.50}"#);
    let (status, outcome) = asking.join().unwrap();
    assert_eq!((status, &outcome["correlationid"], &outcome["origin"]), (200, &"m1".into(), &"device".into()));
    assert_eq!(outcome["data"]["properties"]["sn"], "s1");
    let message = stage.bridge.expect("device.properties.read.reply", "device1");
    assert_eq!(message["id"], outcome["id"]);
    // The next line is of the next command.
    let asking =
        post(&stage, command("READ_PROPERTY", r#""messageId":"m2","headers":{"timeout":1},"properties":["sn"]"#));
    let (status, outcome) = asking.join().unwrap();
    assert_eq!((status, &outcome["data"]["code"]), (200, &"TIME_OUT".into()));
    stage
        .bridge
        .type_line(&command("READ_PROPERTY", r#""messageId":"m3","headers":{"timeout":1},"properties":["sn"]"#));
    assert_eq!(stage.bridge.expect("device.properties.read.reply", "device1")["correlationid"], "m3");
}

#[test]
fn a_command_that_is_none_or_for_a_device_that_is_absent_is_refused_with_the_reason() {
    let stage = Stage::new();
    let absent = command("READ_PROPERTY", r#""properties":["sn"]"#);
    for (command, status, reason) in [
        (absent.as_str(), 404, "no replica has a session of device1"),
        ("{}", 400, "productId is missing"),
        ("read, please", 400, "JSON"),
    ] {
        let (answered, answer) = post(&stage, command.to_owned()).join().unwrap();
        assert_eq!(answered, status, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(reason), "{answer}");
    }
}
