//! Commands: from a queue's record to the packet that a device gets.

mod error;
mod headers;
mod identity;
mod message_ids;
mod read;
mod span;

pub use error::{CommandError, UnreadableCommand};
pub use headers::{BODY_HEADERS, CALLER_ID_BYTES_MAX, HEADERS, with_fields_of_raw, with_headers};
pub use identity::CommandIdentity;
pub use message_ids::MessageIds;

use super::address::command_address;
use super::json::write_string;
use super::message::write_integer;
use super::topic::MessageType;
use super::trace::TraceContext;

/// A command, addressed and checked, not yet given an id or a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Product of the connected device.
    pub product: String,
    /// The connected device.
    pub device: String,
    /// Children between the connected gateway and the addressed child, that one last; empty for the connected device itself.
    pub children: Vec<String>,
    /// Message type; always one that goes to devices.
    pub message_type: MessageType,
    /// The caller's message id; never empty, at most [`CALLER_ID_BYTES_MAX`] bytes.
    pub message_id: Option<String>,
    /// The caller's timestamp, ms since 1970; never 0.
    pub timestamp: Option<i64>,
    /// Header `timeout`, ms; at least 1.
    pub timeout_ms: Option<u64>,
    /// Header `async`.
    pub is_async: bool,
    /// Header `sendAndForget`.
    pub send_and_forget: bool,
    /// Header `correlation-id`; never empty, at most [`CALLER_ID_BYTES_MAX`] bytes.
    pub correlation_id: Option<String>,
    /// Trace context: the header `traceparent` where it is well-formed, and once the session has the command the bridge's own
    /// part of that trace.
    pub trace: Option<TraceContext>,
    /// The registry's product of the child that is meant; `None` for the connected device and for an unknown child.
    pub about_product: Option<String>,
    /// Payload, without type, id and time.
    pub body: CommandBody,
}

/// The payload of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandBody {
    /// Members of the JSON object that the device gets, each with a comma before it.
    Members(String),
    /// Bytes as they are, for `DIRECT`.
    Raw(Vec<u8>),
}

/// A command as the device gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownlinkPacket {
    /// The topic, with a leading `/`.
    pub topic: String,
    /// The payload.
    pub body: Vec<u8>,
}

impl Command {
    /// Reads a command whose subject names device and type, as on NATS.
    ///
    /// `subject` is what follows the prefix and its dot, such as `product1.device1.properties.read` or
    /// `product1.gw1.child.child1.function.invoke`, ids percent-encoded. An empty payload stands for `{}`; that of
    /// `direct` goes to the device as it is. What the body says about address and type is ignored.
    ///
    /// ```
    /// use jetlinks_bridge::protocol::command::Command;
    ///
    /// let command = Command::from_subject("product1.device1.properties.read", br#"{"properties":["sn"]}"#).unwrap();
    /// let packet = command.downlink("1", 1601196762389);
    /// assert_eq!(packet.topic, "/product1/device1/properties/read");
    /// ```
    ///
    /// # Errors
    /// [`CommandError`] keeps as much of the command as could be read.
    pub fn from_subject(subject: &str, payload: &[u8]) -> Result<Command, CommandError> {
        read::from_subject(subject, payload)
    }

    /// Reads a command whose JSON names device and type, as on Kafka and stdin: `messageType`, `productId`, `deviceId`,
    /// and for a child `gatewayId`; `DIRECT` has its bytes as base64 in `payload`.
    ///
    /// # Errors
    /// [`CommandError`] keeps as much of the command as could be read.
    pub fn from_json(json: &[u8]) -> Result<Command, CommandError> {
        read::from_json(json)
    }

    /// The addressed device: the last child, else the connected device.
    pub fn about(&self) -> &str {
        self.children.last().unwrap_or(&self.device)
    }

    /// Whether the command ends the session instead of being published.
    pub fn closes(&self) -> bool {
        self.message_type == MessageType::Disconnect && self.children.is_empty()
    }

    /// The error that this command is, for its caller.
    pub fn refused(self, text: String) -> CommandError {
        let message_id = self.message_id.clone();
        CommandError::Parameter(Box::new(CommandIdentity { message_id, ..self.identity("") }), text)
    }

    /// The command as its outcomes need it, under the id that it goes out with.
    pub fn identity(&self, message_id: &str) -> CommandIdentity {
        CommandIdentity {
            product: self.product.clone(),
            device: self.device.clone(),
            children: self.children.clone(),
            message_type: Some(self.message_type),
            message_id: Some(message_id.to_owned()),
            correlation_id: self.correlation_id.clone(),
            about_product: self.about_product.clone(),
            trace: self.trace,
        }
    }

    /// Bytes that the command takes, itself included.
    pub fn held_bytes(&self) -> usize {
        let texts = [&self.product, &self.device].into_iter().chain(&self.children);
        let optional = [&self.message_id, &self.correlation_id, &self.about_product];
        let body = match &self.body {
            CommandBody::Members(members) => members.capacity(),
            CommandBody::Raw(bytes) => bytes.capacity(),
        };
        size_of::<Self>()
            + body
            + self.children.capacity() * size_of::<String>()
            + texts.chain(optional.into_iter().flatten()).map(String::capacity).sum::<usize>()
    }

    /// Upper bound of the bytes that the packet of [`Command::downlink`] has on the wire, whether its message id is the command's
    /// own or the bridge's.
    pub fn packet_bytes_max(&self) -> usize {
        // Head of the packet, names and punctuation of the common fields, the longest type name, timestamp, an id of the
        // bridge's own.
        const FIXED: usize = 256;
        let ids: usize = [&self.product, &self.device].into_iter().chain(&self.children).map(|id| id.len() + 7).sum();
        match &self.body {
            CommandBody::Raw(bytes) => FIXED + ids + bytes.len(),
            // Escapes make six bytes of one, at most.
            CommandBody::Members(members) => {
                let escaped = self.message_id.as_deref().map_or(0, str::len) + self.about().len();
                FIXED + ids + members.len() + 6 * escaped
            }
        }
    }

    /// The topic that the command goes out on, with a leading `/`.
    pub fn topic(&self) -> String {
        let mut topic = String::with_capacity(self.topic_bytes());
        for part in ["/", &self.product, "/", &self.device] {
            topic.push_str(part);
        }
        for child in &self.children {
            topic.push_str("/child/");
            topic.push_str(child);
        }
        topic.push('/');
        topic.push_str(self.message_type.suffix());
        topic
    }

    /// Length of that topic in bytes.
    pub fn topic_bytes(&self) -> usize {
        let children: usize = self.children.iter().map(|child| "/child/".len() + child.len()).sum();
        "///".len() + self.product.len() + self.device.len() + children + self.message_type.suffix().len()
    }

    /// The subject that the command has on NATS, below `command` of the prefix.
    pub fn address(&self) -> String {
        command_address(&self.product, &self.device, &self.children, self.message_type.dotted())
    }

    /// The packet for the device, under the id and time (ms since 1970) that the caller decides, usually
    /// [`Command::message_id`] and [`Command::timestamp`] where they are given. Nothing is published for a command that
    /// [`closes`](Command::closes).
    pub fn downlink(&self, message_id: &str, timestamp: i64) -> DownlinkPacket {
        let body = match &self.body {
            CommandBody::Raw(bytes) => bytes.clone(),
            CommandBody::Members(members) => {
                let mut body = Vec::with_capacity(128 + message_id.len() + self.about().len() + members.len());
                body.extend_from_slice(b"{\"messageType\":\"");
                body.extend_from_slice(self.message_type.name().as_bytes());
                body.extend_from_slice(b"\",\"messageId\":");
                write_string(&mut body, message_id);
                body.extend_from_slice(b",\"timestamp\":");
                write_integer(&mut body, timestamp);
                body.extend_from_slice(b",\"deviceId\":");
                write_string(&mut body, self.about());
                body.extend_from_slice(members.as_bytes());
                body.push(b'}');
                body
            }
        };
        DownlinkPacket { topic: self.topic(), body }
    }
}
