//! Messages of devices, checked against the fields of their types.

mod decode;
mod field;

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, BytesMut};

pub use decode::{Undecodable, decode, message_id, time_sync_answer};
pub(crate) use decode::{key, last_of_each, timestamp};
pub(crate) use field::boolean_text;
pub use field::{FieldType, Value, defaults, field_type, fields, write_integer};

use crate::protocol::json::write_string;
use crate::protocol::topic::{MessageType, Route};

/// A message of a device, borrowed from its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    message_type: MessageType,
    message_id: Option<Value<'a>>,
    timestamp: i64,
    success: Option<bool>,
    code: Option<Value<'a>>,
    headers: Option<&'a str>,
    /// Fields that are written behind the common ones, in the body's order.
    fields: Vec<Field<'a>>,
    /// The payload, for [`MessageType::Direct`].
    raw: &'a [u8],
}

/// A field of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Field<'a> {
    key: &'a str,
    key_escaped: bool,
    value: Value<'a>,
}

impl<'a> Message<'a> {
    /// Type of the message: that of its route.
    pub fn message_type(&self) -> MessageType {
        self.message_type
    }

    /// The message's id, if the device gave one; may be empty.
    pub fn message_id(&self) -> Option<Cow<'a, str>> {
        self.message_id.and_then(|value| value.as_text())
    }

    /// Timestamp of the device, else the time of receipt; ms since 1970.
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// Whether a reply says success; also for an upgrade's progress. `None` for other types.
    pub fn success(&self) -> Option<bool> {
        self.success
    }

    /// The device's own code.
    pub fn code(&self) -> Option<Cow<'a, str>> {
        self.code.and_then(|value| value.as_text())
    }

    /// The headers as they came: a JSON object.
    pub fn headers(&self) -> Option<&'a str> {
        self.headers
    }

    /// Writes the canonical message: the envelope's `data`. The device and the event are the route's.
    pub fn write_data(&self, out: &mut BytesMut, route: &Route<'_>) {
        out.put_slice(b"{\"messageType\":\"");
        out.put_slice(self.message_type.name().as_bytes());
        out.put_u8(b'"');
        if let Some(message_id) = &self.message_id {
            out.put_slice(b",\"messageId\":");
            message_id.write(out);
        }
        out.put_slice(b",\"deviceId\":");
        write_string(out, route.about());
        out.put_slice(b",\"timestamp\":");
        write_integer(out, self.timestamp);
        if let Some(event) = route.event {
            out.put_slice(b",\"event\":");
            write_string(out, event);
        }
        if self.message_type == MessageType::Direct {
            out.put_slice(b",\"payload\":\"");
            write_base64(out, self.raw);
            out.put_u8(b'"');
        }
        for field in &self.fields {
            out.put_slice(b",\"");
            out.put_slice(field.key.as_bytes());
            out.put_slice(b"\":");
            field.value.write(out);
        }
        for (name, value) in field::defaults(self.message_type) {
            if !self.fields.iter().any(|field| field.is(name)) {
                out.put_slice(b",\"");
                out.put_slice(name.as_bytes());
                out.put_slice(b"\":");
                out.put_slice(value.as_bytes());
            }
        }
        out.put_u8(b'}');
    }

    /// Upper bound of the bytes that [`Message::write_data`] writes for routes of `topic_bytes` bytes.
    pub(crate) fn data_bytes_max(&self, topic_bytes: usize) -> usize {
        // Names and punctuation of the common fields, the longest type name, the defaults.
        const FIXED: usize = 256;
        let fields: usize = self.fields.iter().map(|field| field.key.len() + 4 + field.value.written_bytes_max()).sum();
        let raw = if self.message_type == MessageType::Direct { self.raw.len() / 3 * 4 + 4 } else { 0 };
        let message_id = self.message_id.map_or(0, |value| value.written_bytes_max());
        FIXED + fields + raw + message_id + 6 * topic_bytes
    }
}

impl Field<'_> {
    fn is(&self, name: &str) -> bool {
        if self.key_escaped { crate::protocol::json::unescape(self.key) == name } else { self.key == name }
    }
}

/// Writes bytes as base64 with padding.
pub(crate) fn write_base64(out: &mut BytesMut, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // The room is exactly what base64 with padding takes.
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    debug_assert_eq!(start + written, out.len());
}
