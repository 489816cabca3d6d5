//! A command, as JSON and behind a subject. The input is a subject, a line break and its body, or a command as JSON.

use jetlinks_bridge::protocol::command::{Command, CommandBody, CommandError};
use jetlinks_bridge::protocol::downlink::Code;
use jetlinks_bridge::protocol::envelope::{Encoder, Mode};
use jetlinks_bridge::protocol::topic::TOPIC_BYTES_MAX;
use jetlinks_bridge::protocol::uplink::Addressing;
use serde_json::Value;

/// Reads the input in both ways.
pub fn check(data: &[u8]) {
    judge(&Command::from_json(data), None);
    if let Some(at) = data.iter().position(|byte| *byte == b'\n')
        && let Ok(subject) = std::str::from_utf8(&data[..at])
    {
        judge(&Command::from_subject(subject, &data[at + 1..]), Some(subject));
    }
}

fn judge(command: &Result<Command, CommandError>, subject: Option<&str>) {
    let mut encoder = Encoder::new(Mode::Structured, Addressing::Key, "replica1".to_owned(), 1);
    let command = match command {
        Ok(command) => command,
        Err(error) => {
            let outcome = encoder.refused(error);
            let envelope: Value = serde_json::from_slice(&outcome.payload).expect("an outcome is JSON");
            assert_eq!(envelope["origin"], "bridge");
            let expected = match error {
                CommandError::Unsupported(..) => Code::UnsupportedMessage,
                CommandError::Unreadable(..) | CommandError::Parameter(..) => Code::ParameterError,
            };
            assert_eq!(envelope["data"]["code"], expected.as_str());
            return;
        }
    };
    assert!(command.message_type.goes_down());
    assert!(command.message_id.as_deref() != Some(""));
    let packet = command.downlink("7", 1);
    assert!(packet.topic.len() <= TOPIC_BYTES_MAX);
    assert!(!packet.topic.contains(['+', '#']) && !packet.topic.chars().any(char::is_control));
    assert!(packet.topic.starts_with(&format!("/{}/{}/", command.product, command.device)));
    assert!(packet.topic.ends_with(command.message_type.suffix()));
    if let Some(subject) = subject {
        let dotted = command.message_type.dotted();
        assert!(subject.ends_with(dotted), "{subject:?} became {dotted}");
    }
    match &command.body {
        CommandBody::Raw(bytes) => assert_eq!(&packet.body, bytes),
        CommandBody::Members(_) => body(command, &packet.body),
    }
    let outcome = encoder.failure(&command.identity("7"), Code::TimeOut, "no reply in time");
    let envelope: Value = serde_json::from_slice(&outcome.payload).expect("an outcome is JSON");
    assert_eq!(envelope["correlationid"], command.correlation_id.as_deref().unwrap_or("7"));
}

fn body(command: &Command, bytes: &[u8]) {
    let body: Value = serde_json::from_slice(bytes).expect("a body is JSON");
    assert_eq!(body["messageType"], command.message_type.name());
    assert_eq!(body["messageId"], "7");
    assert_eq!(body["timestamp"], 1);
    assert_eq!(body["deviceId"], command.about());
    assert!(body.get("productId").is_none() && body.get("gatewayId").is_none());
    let once = |key: &str| {
        let mut times = 0;
        let scanned = jetlinks_bridge::protocol::json::scan(bytes, |member| times += usize::from(member.key == key));
        assert_eq!(scanned, Ok(()));
        assert_eq!(times, 1, "{key} stands {times} times");
    };
    ["messageType", "messageId", "timestamp", "deviceId"].into_iter().for_each(once);
}
