//! Commands for devices that another replica holds: the request that brings one there, and the answer that comes back.
//!
//! The queue that reads a command makes a [`HandOverRequest`] of it and sends it by a [`HandOver`], which finds the replica that
//! holds the device. The queue that carries requests implements [`HandOver`].

use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::time::Instant;

use crate::protocol::command::{Command, CommandBody};

/// One command on its way to another replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandOverRequest {
    /// The sender's own name for it; comes back with the answer.
    pub number: u64,
    /// Product, device, children and type, as a subject names them below its prefix.
    pub address: String,
    /// Headers; those with a line break in their value are left out.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub payload: Bytes,
    /// Later than this it is not sent.
    pub deadline: Instant,
}

/// The end of a request that was sent, or could not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandOverAnswer {
    /// The outcome.
    Outcome(ForeignOutcome),
    /// No replica holds the device.
    NoResponders,
    /// The client does not take the request; the text says why.
    NotSent(String),
}

/// The outcome of a command, as another replica wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForeignOutcome {
    /// The envelope, or in binary mode its `data`; empty where it could not be carried.
    pub payload: Bytes,
    /// Header `content-type`.
    pub content_type: Option<String>,
    /// Header `traceparent`.
    pub traceparent: Option<String>,
    /// Binary mode: the attributes by their bare names, values as they are.
    pub attributes: Vec<(String, String)>,
    /// Code and text, where it is a failure.
    pub failure: Option<(String, String)>,
}

/// One thread's requests to other replicas.
pub trait HandOver {
    /// Whether requests find their way: the server is there, and the other replicas have had the time to be back.
    fn is_open(&self) -> bool;

    /// Puts a request in line. Never blocks.
    fn send(&self, request: HandOverRequest);

    /// The next answer, with the number of its request; one task asks. An answer may come for a request that was given up.
    fn poll_answer(&self, cx: &mut Context<'_>) -> Poll<(u64, HandOverAnswer)>;
}

/// The settings of a [`HandOver`].
pub trait HandOverSettings: Send + Sync {
    /// Checks the settings without a connection.
    ///
    /// # Errors
    /// The text names the setting.
    fn check(&self) -> Result<(), String>;

    /// Starts on the calling thread, inside a `LocalSet`; at most `waiting_max` requests are to wait for their answers at a
    /// time, or answers are lost. A server that is away is waited for.
    ///
    /// # Errors
    /// As [`HandOverSettings::check`].
    fn start(&self, waiting_max: usize) -> Result<Rc<dyn HandOver>, String>;
}

impl HandOverRequest {
    /// The request that brings a command to whichever replica holds its device, with the JSON that it came in as `value`. The
    /// command must have its message id.
    pub fn new(number: u64, command: &Command, value: &Bytes, deadline: Instant) -> Self {
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
        Self { number, address: command.address(), headers, payload, deadline }
    }
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

    fn handed_over(json: &str, message_id: &str) -> (HandOverRequest, Command) {
        let mut command = Command::from_json(json.as_bytes()).expect("a command");
        command.message_id.get_or_insert_with(|| message_id.to_owned());
        let value = Bytes::from(json.to_owned());
        let request = HandOverRequest::new(1, &command, &value, Instant::now());
        let read = Command::from_subject(&request.address, &request.payload).expect("the other replica reads it");
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
        assert_eq!(request.address, "product1.device1.direct");
        assert_eq!(read.body, CommandBody::Raw(vec![0, 1]));
        let expected = [("messageId", "42"), ("timeout", "500"), ("sendAndForget", "true")];
        assert_eq!(request.headers, expected.map(|(name, value)| (name, value.to_owned())));
    }
}
