//! Outcomes of commands that the bridge itself writes.

use bytes::BufMut;

use super::device_path::DevicePath;
use super::head::Head;
use super::{Encoder, EnvelopeType};
use crate::protocol::command::{CommandError, CommandIdentity, UnreadableCommand};
use crate::protocol::downlink::{Code, Outcome};
use crate::protocol::json::write_string;
use crate::protocol::message::{write_base64, write_integer};
use crate::protocol::topic::MessageType;

/// Bytes of an outcome's data without its texts; a hint.
const DATA_BYTES: usize = 256;

impl Encoder {
    /// The bridge could not carry the command out; the text is for its caller.
    pub fn failure(&mut self, command: &CommandIdentity, code: Code, text: &str) -> Outcome {
        let mut outcome = self.own_outcome(command, false, Some(code), Some(text));
        outcome.failure = Some((code, text.to_owned()));
        outcome
    }

    /// The command was delivered. Where its type has a reply, that one comes later as an ordinary message, and the code
    /// says [`Code::RequestHandling`].
    pub fn accepted(&mut self, command: &CommandIdentity) -> Outcome {
        let code = (command.reply_type() != MessageType::Acknowledge).then_some(Code::RequestHandling);
        self.own_outcome(command, true, code, None)
    }

    /// DISCONNECT to a connected device was carried out: its session is closed.
    pub fn disconnected(&mut self, command: &CommandIdentity) -> Outcome {
        self.own_outcome(command, true, None, None)
    }

    /// A command was refused when it was read.
    pub fn refused(&mut self, error: &CommandError) -> Outcome {
        match error {
            CommandError::Unreadable(command) => self.command_failed(command),
            CommandError::Parameter(command, text) => self.failure(command, Code::ParameterError, text),
            CommandError::Unsupported(command, text) => self.failure(command, Code::UnsupportedMessage, text),
        }
    }

    /// Outcome of an unreadable command. It is about no device, and carries the ids that its caller may know the command by.
    pub fn command_failed(&mut self, command: &UnreadableCommand) -> Outcome {
        let (text, trace, correlation) = (command.text.as_str(), command.trace, command.correlation());
        let head = Head {
            trace,
            correlation: (!correlation.is_empty()).then_some(correlation),
            ..self.head(EnvelopeType::CommandFailed)
        };
        let code = Code::ParameterError;
        let encoded = self.encode(&head, DATA_BYTES + text.len() + command.payload.len() / 3 * 4, |out| {
            out.put_slice(b"{\"code\":\"");
            out.put_slice(code.as_str().as_bytes());
            out.put_slice(b"\",\"message\":");
            write_string(out, text);
            if let Some(message_id) = &command.message_id {
                out.put_slice(b",\"messageId\":");
                write_string(out, message_id);
            }
            for (name, text) in &command.members {
                out.put_slice(b",\"");
                out.put_slice(name.as_bytes());
                out.put_slice(b"\":");
                write_string(out, text);
            }
            if let Some(topic) = &command.topic {
                out.put_slice(b",\"topic\":");
                write_string(out, topic);
            }
            if let Some((partition, offset)) = command.record {
                out.put_slice(b",\"partition\":");
                write_integer(out, i64::from(partition));
                out.put_slice(b",\"offset\":");
                write_integer(out, offset);
            }
            if !command.payload.is_empty() {
                out.put_slice(b",\"payload_base64\":\"");
                write_base64(out, &command.payload);
                out.put_u8(b'"');
            }
            out.put_u8(b'}');
        });
        Outcome {
            device: String::new(),
            correlation_id: correlation.to_owned(),
            payload: encoded.payload,
            attributes: encoded.attributes,
            trace,
            failure: Some((code, text.to_owned())),
        }
    }

    fn own_outcome(
        &mut self,
        command: &CommandIdentity,
        success: bool,
        code: Option<Code>,
        text: Option<&str>,
    ) -> Outcome {
        let message_type = command.reply_type();
        let children: Vec<&str> = command.children.iter().map(String::as_str).collect();
        let path = DevicePath {
            product: &command.product,
            device: &command.device,
            children: &children,
            about_product: command.about_product.as_deref(),
        };
        let correlation = command.correlation();
        let head = Head {
            path: Some(path),
            trace: command.trace,
            correlation: (!correlation.is_empty()).then_some(correlation),
            ..self.head(EnvelopeType::Device(message_type))
        };
        let now_ms = i64::try_from(self.now_ms).unwrap_or(i64::MAX);
        let encoded = self.encode(&head, DATA_BYTES + text.map_or(0, str::len), |out| {
            out.put_slice(b"{\"messageType\":\"");
            out.put_slice(message_type.name().as_bytes());
            out.put_u8(b'"');
            if let Some(message_id) = &command.message_id {
                out.put_slice(b",\"messageId\":");
                write_string(out, message_id);
            }
            out.put_slice(b",\"deviceId\":");
            write_string(out, command.about());
            out.put_slice(b",\"timestamp\":");
            write_integer(out, now_ms);
            out.put_slice(if success { b",\"success\":true" } else { b",\"success\":false" });
            if let Some(code) = code {
                out.put_slice(b",\"code\":\"");
                out.put_slice(code.as_str().as_bytes());
                out.put_u8(b'"');
            }
            if let Some(text) = text {
                out.put_slice(b",\"message\":");
                write_string(out, text);
            }
            out.put_u8(b'}');
        });
        Outcome {
            device: command.about().to_owned(),
            correlation_id: correlation.to_owned(),
            payload: encoded.payload,
            attributes: encoded.attributes,
            trace: command.trace,
            failure: None,
        }
    }
}
