//! Commands on their way to another replica.

use bytes::Bytes;
use tokio::time::Instant;

use crate::protocol::address;
use crate::protocol::command::{Command, CommandBody};
use crate::queue::nats::NatsRequest;

/// The request that brings a command to whichever replica holds its device: on the subject in which that one is
/// interested, with the record's own JSON. `value` is the record; the command must have its message id.
pub(super) fn request(prefix: &str, number: u64, command: &Command, value: &Bytes, deadline: Instant) -> NatsRequest {
    let mut headers = Vec::new();
    headers.extend(command.correlation_id.clone().map(|value| ("correlation-id", value)));
    headers.extend(command.trace.map(|trace| ("traceparent", trace.to_text().as_str().to_owned())));
    let message_id = command.message_id.as_deref().unwrap_or_default();
    let payload = match &command.body {
        CommandBody::Members(_) => with_message_id(value, message_id),
        // Raw bytes leave the JSON behind, and all that stands in it.
        CommandBody::Raw(bytes) => {
            headers.push(("messageId", message_id.to_owned()));
            headers.extend(command.timeout_ms.map(|timeout_ms| ("timeout", timeout_ms.to_string())));
            headers.extend(command.is_async.then(|| ("async", "true".to_owned())));
            headers.extend(command.send_and_forget.then(|| ("sendAndForget", "true".to_owned())));
            Bytes::copy_from_slice(bytes)
        }
    };
    NatsRequest { number, subject: subject(prefix, command), headers, payload, deadline }
}

fn subject(prefix: &str, command: &Command) -> String {
    let mut subject =
        format!("{prefix}.command.{}.{}", address::token(&command.product), address::token(&command.device));
    for child in &command.children {
        subject.push_str(".child.");
        subject.push_str(&address::token(child));
    }
    subject.push('.');
    subject.push_str(command.message_type.dotted());
    subject
}

/// Adds the message id as the last member: of members with one name the last wins. The object is never empty.
fn with_message_id(value: &[u8], message_id: &str) -> Bytes {
    let value = value.trim_ascii_end();
    let members = value.strip_suffix(b"}").unwrap_or(value);
    let quoted = serde_json::Value::from(message_id).to_string();
    Bytes::from([members, b",\"messageId\":", quoted.as_bytes(), b"}"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed_over(json: &str, message_id: &str) -> (NatsRequest, Command) {
        let mut command = Command::from_json(json.as_bytes()).expect("a command");
        command.message_id.get_or_insert_with(|| message_id.to_owned());
        let value = Bytes::from(json.to_owned());
        let request = request("jetlinks", 1, &command, &value, Instant::now());
        let address = request.subject.strip_prefix("jetlinks.command.").expect("the prefix").to_owned();
        let read = Command::from_subject(&address, &request.payload).expect("the other replica reads it");
        (request, read)
    }

    #[test]
    fn the_other_replica_reads_the_same_command() {
        for json in [
            r#"{"messageType":"READ_PROPERTY","productId":"p.1","deviceId":"device1","properties":["sn"]}"#,
            r#"{"deviceId":"child 1","gatewayId":"gw1","productId":"product1","messageType":"INVOKE_FUNCTION",
                "functionId":"f","inputs":{"x":1.50},"headers":{"timeout":77,"correlation-id":"c"}, "messageId":null } "#,
            r#"{"messageType":"WRITE_PROPERTY","productId":"product1","deviceId":"device1","messageId":"m\"1","timestamp":5}"#,
        ] {
            let (request, read) = handed_over(json, "42");
            let mut expected = Command::from_json(json.as_bytes()).expect("a command");
            expected.message_id.get_or_insert_with(|| "42".to_owned());
            assert_eq!(read, expected, "{request:?}");
        }
    }

    #[test]
    fn raw_bytes_travel_bare_with_the_rest_in_headers() {
        let json = r#"{"messageType":"DIRECT","productId":"product1","deviceId":"device1","payload":"AAE=",
            "headers":{"sendAndForget":true,"timeout":500}}"#;
        let (request, read) = handed_over(json, "42");
        assert_eq!(request.subject, "jetlinks.command.product1.device1.direct");
        assert_eq!(read.body, CommandBody::Raw(vec![0, 1]));
        let expected = [("messageId", "42"), ("timeout", "500"), ("sendAndForget", "true")];
        assert_eq!(request.headers, expected.map(|(name, value)| (name, value.to_owned())));
    }
}
