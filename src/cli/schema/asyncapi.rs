//! The AsyncAPI document: which topics and subjects there are, and what is on them.
//!
//! `asyncapi.json` is the document without what the program knows: the version, topics, group and prefix of subjects, types of
//! messages, and their schemas.

use serde_json::{Map, Value, json};

use super::object::{Object, text, word};
use super::{command, envelope, timeout_max_ms};
use crate::config::Config;
use crate::protocol::envelope::EnvelopeType;
use crate::protocol::topic::MessageType;

const DOCUMENT: &str = include_str!("asyncapi.json");

const KAFKA_BINDING: &str = "0.5.0";

/// Modes and queues of a message: the end of its name, and the beginning of its attributes' headers.
const STRUCTURED: &str = "structured";
const KAFKA: (&str, &str) = ("kafka-binary", "ce_");
const NATS: (&str, &str) = ("nats-binary", "ce-");

/// The document, with the names of that configuration.
pub(super) fn document(config: &Config) -> Value {
    // It is a part of this program, and a test reads it.
    let mut document: Value = serde_json::from_str(DOCUMENT).unwrap_or_default();
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    fill_kafka(&mut document, config);
    fill_nats(&mut document["channels"], config);
    document["components"]["messages"] = messages();
    if let Some(known) = document["components"]["schemas"].as_object_mut() {
        known.extend(schemas(config));
    }
    document
}

/// Types of the messages about devices and of presence.
fn of_devices() -> impl Iterator<Item = EnvelopeType> {
    MessageType::all().filter(|own| own.goes_up()).map(EnvelopeType::Device)
}

/// Types of outcomes about a device.
fn of_outcomes() -> impl Iterator<Item = EnvelopeType> {
    let is_outcome = |own: &MessageType| own.answers().is_some() || *own == MessageType::Acknowledge;
    MessageType::all().filter(is_outcome).map(EnvelopeType::Device)
}

fn fill_kafka(document: &mut Value, config: &Config) {
    let kafka = &config.kafka;
    document["operations"]["kafka.command"]["bindings"]["kafka"]["groupId"] = word(&kafka.group);
    let envelopes = |types: &mut dyn Iterator<Item = EnvelopeType>| in_both_modes(types, KAFKA.0);
    for (channel, topic, messages) in [
        ("kafka.device", &kafka.uplink_topic, envelopes(&mut of_devices().chain([EnvelopeType::Replica]))),
        (
            "kafka.rejected",
            &kafka.rejected_topic,
            envelopes(&mut [EnvelopeType::Rejected, EnvelopeType::CommandFailed].into_iter()),
        ),
        ("kafka.reply", &kafka.reply_topic, envelopes(&mut of_outcomes())),
        ("kafka.command", &kafka.command_topic, listed(command::all().map(|own| format!("command.{}", own.name())))),
    ] {
        let channel = &mut document["channels"][channel];
        channel["address"] = topic.as_str().into();
        channel["bindings"]["kafka"]["topic"] = topic.as_str().into();
        channel["messages"] = messages;
    }
}

/// The addresses in the document are subjects below the prefix.
fn fill_nats(channels: &mut Value, config: &Config) {
    let event = EnvelopeType::Device(MessageType::Event);
    let plain: Vec<EnvelopeType> = of_devices().filter(|own| *own != event).collect();
    let up: Vec<&str> = plain.iter().map(|own| own.end()).collect();
    let down: Vec<&str> = command::all().map(MessageType::dotted).collect();
    for (channel, types) in
        [("nats.device", &up), ("nats.child", &up), ("nats.command", &down), ("nats.command.child", &down)]
    {
        channels[channel]["parameters"]["type"]["enum"] = json!(types);
    }
    let outcomes: Vec<EnvelopeType> = of_outcomes().chain([EnvelopeType::CommandFailed]).collect();
    for (channel, types) in [
        ("nats.device", &plain[..]),
        ("nats.device.event", &[event]),
        ("nats.child", &plain),
        ("nats.child.event", &[event]),
        ("nats.rejected", &[EnvelopeType::Rejected]),
        ("nats.replica", &[EnvelopeType::Replica]),
        ("nats.reply", &outcomes),
    ] {
        channels[channel]["messages"] = in_both_modes(types.iter().copied(), NATS.0);
    }
    for channel in ["nats.command", "nats.command.child"] {
        channels[channel]["messages"] = listed(command::all().map(|own| format!("command-body.{}", own.name())));
    }
    for (_, channel) in channels.as_object_mut().into_iter().flatten().filter(|(name, _)| name.starts_with("nats.")) {
        if let Some(address) = channel["address"].as_str() {
            channel["address"] = format!("{}.{address}", config.nats.prefix).into();
        }
    }
}

fn messages() -> Value {
    let mut messages = Map::new();
    for own in EnvelopeType::all() {
        let name = own.end();
        let key = json!({
            "key": { "type": "string", "description": if own == EnvelopeType::Replica { "replicaid" } else { "deviceid" } },
            "bindingVersion": KAFKA_BINDING,
        });
        let mut add = |end: &str, content_type: &str, headers: Value, payload: String, bindings: Value| {
            let message = json!({
                "name": own.to_string(),
                "title": format!("{name}, {end}"),
                "contentType": content_type,
                "headers": headers,
                "payload": reference("components/schemas", &payload),
                "bindings": bindings,
            });
            messages.insert(message_name(own, end), message);
        };
        let kafka = json!({ "kafka": key });
        let whole = reference("components/schemas", "headers.structured");
        add(STRUCTURED, "application/cloudevents+json", whole, format!("envelope.{name}"), kafka.clone());
        for ((end, start), bindings) in [(KAFKA, kafka), (NATS, json!({}))] {
            let headers = json!({ "allOf": [
                reference("components/schemas", &format!("headers.{end}")),
                Object::default().with(&format!("{start}type"), word(&own.to_string())).open(),
            ]});
            add(end, "application/json", headers, format!("data.{name}"), bindings);
        }
    }
    for own in command::all() {
        let name = own.name();
        let headers = |headers: &str| reference("components/schemas", headers);
        messages.insert(
            format!("command.{name}"),
            json!({
                "name": name,
                "title": format!("Command {name} on Kafka"),
                "contentType": "application/json",
                "headers": headers("headers.command"),
                "payload": headers(&format!("command.{name}")),
                "bindings": { "kafka": {
                    "key": { "type": "string", "description": "The connected device: deviceId, for a child gatewayId" },
                    "bindingVersion": KAFKA_BINDING,
                } },
            }),
        );
        let is_raw = own == MessageType::Direct;
        messages.insert(
            format!("command-body.{name}"),
            json!({
                "name": name,
                "title": format!("Command {name} on NATS"),
                "contentType": if is_raw { "application/octet-stream" } else { "application/json" },
                "headers": headers(if is_raw { "headers.command.raw" } else { "headers.command" }),
                "payload": headers(&format!("command-body.{name}")),
            }),
        );
    }
    Value::Object(messages)
}

/// The schemas of messages, and of headers in binary mode.
fn schemas(config: &Config) -> Map<String, Value> {
    let mut schemas = Map::new();
    let mut add = |name: String, mut schema: Value| {
        if let Some(schema) = schema.as_object_mut() {
            // Here the place in the document is the name.
            schema.retain(|word, _| !matches!(word.as_str(), "$id" | "$schema"));
        }
        schemas.insert(name, schema);
    };
    for own in EnvelopeType::all() {
        add(format!("envelope.{}", own.end()), envelope::envelope(own));
        add(format!("data.{}", own.end()), envelope::data(own));
    }
    let longest = timeout_max_ms(config);
    for own in command::all() {
        add(format!("command.{}", own.name()), command::command(own, longest));
        let raw = || json!({ "type": "string", "format": "binary", "description": "The bytes for the device" });
        add(format!("command-body.{}", own.name()), command::body(own, longest).unwrap_or_else(raw));
    }
    for (end, start) in [KAFKA, NATS] {
        let headers = binary_headers(start).perhaps("traceparent", text()).perhaps("correlation-id", text());
        add(format!("headers.{end}"), headers.open());
    }
    schemas
}

/// Attributes as headers; `datacontenttype` is `content-type`.
fn binary_headers(start: &str) -> Object {
    let attributes = envelope::attributes().open();
    let required = attributes["required"].as_array().cloned().unwrap_or_default();
    let members = attributes["properties"].as_object().cloned().unwrap_or_default();
    let headers = Object::default().with("content-type", word("application/json"));
    members.into_iter().filter(|(name, _)| name != "datacontenttype").fold(headers, |headers, (name, schema)| {
        let is_encoded = start == NATS.1 && matches!(name.as_str(), "productid" | "deviceid" | "gatewayid");
        let schema = if is_encoded { text() } else { schema };
        let header = format!("{start}{name}");
        if required.contains(&name.into()) { headers.with(&header, schema) } else { headers.perhaps(&header, schema) }
    })
}

fn message_name(envelope_type: EnvelopeType, end: &str) -> String {
    format!("{}.{end}", envelope_type.end())
}

/// The messages of these types, structured and in the queue's binary mode.
fn in_both_modes(types: impl Iterator<Item = EnvelopeType>, binary: &str) -> Value {
    listed(types.flat_map(|own| [STRUCTURED, binary].map(|end| message_name(own, end))))
}

/// Messages of a channel, each by its own name.
fn listed(names: impl Iterator<Item = String>) -> Value {
    names.map(|name| (name.clone(), reference("components/messages", &name))).collect::<Map<_, _>>().into()
}

fn reference(place: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/{place}/{name}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Sources};

    #[test]
    fn the_document_is_json_and_names_what_is_filled_in() {
        let document: Value = serde_json::from_str(DOCUMENT).expect("the document is JSON");
        let config = config::load(&Sources::default()).expect("the built-in configuration is right").config;
        let whole = super::document(&config);
        for part in ["channels", "operations"] {
            let names =
                |document: &Value| document[part].as_object().map(|part| part.keys().cloned().collect::<Vec<_>>());
            assert_eq!(names(&whole), names(&document), "{part}");
        }
        for (name, channel) in whole["channels"].as_object().expect("there are channels") {
            assert!(channel["messages"].as_object().is_some_and(|messages| !messages.is_empty()), "{name}");
        }
    }
}
