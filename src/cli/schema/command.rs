//! Schemas of commands, out of the tables of types and fields.
//!
//! They say how a command should be written. The bridge also takes numbers and booleans for texts, and texts for numbers
//! and booleans.

use serde_json::{Value, json};

use super::object::{Object, base64, described, document, field, id, integer, one_of, text, word};
use crate::protocol::command::{BODY_HEADERS, CALLER_ID_BYTES_MAX};
use crate::protocol::message::{FieldType, fields};
use crate::protocol::topic::MessageType;

/// Every command.
pub(super) fn all() -> impl Iterator<Item = MessageType> {
    MessageType::all().filter(|message_type| message_type.goes_down())
}

/// A command with its address, as on Kafka, on stdin and for the admin API; `timeout_max_ms` is the longest time-out.
pub(super) fn command(message_type: MessageType, timeout_max_ms: u64) -> Value {
    let object = addressed(word(message_type.name()));
    let schema = members(object, message_type, timeout_max_ms);
    document("command", message_type.name(), &format!("Command {}", message_type.name()), schema)
}

/// A command whose address is the subject, as on NATS; `None` for the one whose body is raw bytes.
pub(super) fn body(message_type: MessageType, timeout_max_ms: u64) -> Option<Value> {
    if message_type == MessageType::Direct {
        return None;
    }
    let schema = members(Object::default(), message_type, timeout_max_ms);
    let description = format!("Command {} on NATS, where the subject has the address", message_type.name());
    Some(document("command-body", message_type.name(), &description, schema))
}

/// Any command with its address, without the fields of its type.
pub(super) fn any(timeout_max_ms: u64) -> Value {
    common(addressed(one_of(all().map(MessageType::name))), timeout_max_ms).open()
}

fn addressed(message_type: Value) -> Object {
    Object::default()
        .with("messageType", message_type)
        .with("productId", described(id(), "Product of the connected device"))
        .with("deviceId", described(id(), "The device that is meant"))
        .perhaps("gatewayId", described(id(), "The connected gateway of a child"))
}

fn common(object: Object, timeout_max_ms: u64) -> Object {
    let mut headers = Object::default();
    for (name, field_type) in BODY_HEADERS {
        headers = headers.perhaps(name, header(name, field_type, timeout_max_ms));
    }
    object
        .perhaps("messageId", caller_id())
        .perhaps("timestamp", described(integer(), "ms since 1970"))
        .perhaps("headers", headers.open())
}

fn header(name: &str, field_type: FieldType, timeout_max_ms: u64) -> Value {
    match name {
        "timeout" => described(json!({ "type": "integer", "minimum": 1, "maximum": timeout_max_ms }), "ms"),
        "correlation-id" => caller_id(),
        _ => field(field_type),
    }
}

fn caller_id() -> Value {
    json!({ "type": "string", "maxLength": CALLER_ID_BYTES_MAX })
}

fn members(object: Object, message_type: MessageType, timeout_max_ms: u64) -> Value {
    let mut object = common(object, timeout_max_ms);
    for (name, field_type) in fields(message_type).filter(|(name, _)| !matches!(*name, "messageId" | "headers")) {
        object = object.perhaps(name, field(field_type));
    }
    match message_type {
        MessageType::Direct => object.with("payload", base64()).open(),
        MessageType::InvokeFunction => {
            let input = Object::default().with("name", text()).perhaps("value", json!({})).open();
            let inputs = json!({ "oneOf": [{ "type": "array", "items": input }, { "type": "object" }] });
            let mut schema = object.perhaps("inputs", inputs).open();
            schema["anyOf"] = json!([{ "required": ["functionId"] }, { "required": ["function"] }]);
            schema
        }
        _ => object.open(),
    }
}
