//! The AsyncAPI document: which topics and subjects there are, and what is on them.

use serde_json::{Map, Value, json};

use super::object::{Object, pattern, text, word};
use super::{command, envelope, timeout_max_ms};
use crate::config::Config;
use crate::protocol::envelope::EnvelopeType;
use crate::protocol::topic::MessageType;

const KAFKA_BINDING: &str = "0.5.0";
const NATS_BINDING: &str = "0.1.0";

const DESCRIPTION: &str = "Devices speak the JetLinks official protocol over MQTT or CoAP to the bridge. Every message becomes one \
    CloudEvent on Kafka or NATS; commands come from Kafka or NATS and go to the device. Either queue may carry either way.";

/// Modes and queues of a message: the end of its name, and the beginning of its attributes' headers.
const STRUCTURED: &str = "structured";
const KAFKA: (&str, &str) = ("kafka-binary", "ce_");
const NATS: (&str, &str) = ("nats-binary", "ce-");

/// The document, with the names of that configuration.
pub(super) fn document(config: &Config) -> Value {
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "jetlinks-bridge",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": { "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0" },
        },
        "defaultContentType": "application/cloudevents+json",
        "servers": {
            "kafka": server("kafka", "127.0.0.1:9092"),
            "nats": server("nats", "127.0.0.1:4222"),
        },
        "channels": channels(config),
        "operations": operations(config),
        "components": { "messages": messages(), "schemas": schemas(config) },
    })
}

fn server(protocol: &str, address: &str) -> Value {
    json!({
        "host": "{address}",
        "protocol": protocol,
        "variables": { "address": { "default": address, "description": "Host and port" } },
    })
}

/// Types of the messages about devices and of presence.
fn of_devices() -> Vec<EnvelopeType> {
    let written = |message_type: &MessageType| message_type.goes_up();
    MessageType::all().filter(written).map(EnvelopeType::Device).collect()
}

/// Types of outcomes about a device.
fn of_outcomes() -> Vec<EnvelopeType> {
    let outcome = |own: &MessageType| own.answers().is_some() || *own == MessageType::Acknowledge;
    MessageType::all().filter(outcome).map(EnvelopeType::Device).collect()
}

fn channels(config: &Config) -> Value {
    let topic = |topic: &str, description: &str, types: Vec<EnvelopeType>| {
        let messages = types.into_iter().flat_map(|own| [STRUCTURED, KAFKA.0].map(|end| message_name(own, end)));
        json!({
            "address": topic,
            "description": description,
            "servers": [reference("servers", "kafka")],
            "messages": listed(messages),
            "bindings": { "kafka": { "topic": topic, "bindingVersion": KAFKA_BINDING } },
        })
    };
    let subject = |address: String, description: &str, parameters: &[(&str, Value)], types: &[EnvelopeType]| {
        let messages = types.iter().flat_map(|own| [STRUCTURED, NATS.0].map(|end| message_name(*own, end)));
        nats_channel(Some(address), description, parameters, listed(messages))
    };
    let commands = |messages: Vec<String>| listed(messages.into_iter());
    let kafka_commands = command::all().map(|own| format!("command.{}", own.name())).collect();
    let nats_commands = || command::all().map(|own| format!("command-body.{}", own.name())).collect();

    let (kafka, prefix) = (&config.kafka, &config.nats.prefix);
    let (device, child) = ("{productId}.{deviceId}", "{productId}.{gatewayId}.child.{childId}");
    let of_device = [parameter("productId"), parameter("deviceId")];
    let of_child = [parameter("productId"), parameter("gatewayId"), parameter("childId")];
    let with = |own: &[(&'static str, Value)], more: (&'static str, Value)| [own, &[more]].concat();
    let plain: Vec<EnvelopeType> =
        of_devices().into_iter().filter(|own| *own != EnvelopeType::Device(MessageType::Event)).collect();
    let event = [EnvelopeType::Device(MessageType::Event)];
    let up = ("type", json!({ "description": "Topic with dots", "enum": ends(&plain) }));
    let down = || {
        let types: Vec<_> = command::all().map(MessageType::dotted).collect();
        ("type", json!({ "description": "Topic with dots", "enum": types }))
    };
    let event_id = || ("eventId", json!({ "description": "Id of the event, percent-encoded" }));

    let mut uplink = of_devices();
    uplink.push(EnvelopeType::Replica);
    let mut channels = Map::new();
    let mut add = |name: &str, channel: Value| channels.insert(name.to_owned(), channel);
    add(
        "kafka.device",
        topic(&kafka.uplink_topic, "Messages of devices, presence, and heartbeats of replicas", uplink),
    );
    let rejected = vec![EnvelopeType::Rejected, EnvelopeType::CommandFailed];
    add("kafka.rejected", topic(&kafka.rejected_topic, "Messages and commands that were not understood", rejected));
    add(
        "kafka.reply",
        topic(&kafka.reply_topic, "Outcomes of commands, keyed by the device that was meant", of_outcomes()),
    );
    let mut channel = topic(&kafka.command_topic, "Commands, keyed by the connected device", Vec::new());
    channel["messages"] = commands(kafka_commands);
    add("kafka.command", channel);
    add(
        "nats.device",
        subject(
            format!("{prefix}.device.{device}.{{type}}"),
            "Messages and presence of a device",
            &with(&of_device, up.clone()),
            &plain,
        ),
    );
    add(
        "nats.device.event",
        subject(
            format!("{prefix}.device.{device}.event.{{eventId}}"),
            "Events of a device",
            &with(&of_device, event_id()),
            &event,
        ),
    );
    add(
        "nats.child",
        subject(
            format!("{prefix}.device.{child}.{{type}}"),
            "Messages and presence of a child; child.{childId} may come again for its children",
            &with(&of_child, up),
            &plain,
        ),
    );
    add(
        "nats.child.event",
        subject(
            format!("{prefix}.device.{child}.event.{{eventId}}"),
            "Events of a child",
            &with(&of_child, event_id()),
            &event,
        ),
    );
    add(
        "nats.rejected",
        subject(
            format!("{prefix}.rejected.{device}"),
            "Messages of a device that were not understood",
            &of_device,
            &[EnvelopeType::Rejected],
        ),
    );
    add(
        "nats.replica",
        subject(
            format!("{prefix}.bridge.replica.{{replicaId}}"),
            "Heartbeats of a replica",
            &[parameter("replicaId")],
            &[EnvelopeType::Replica],
        ),
    );
    add(
        "nats.command",
        nats_channel(
            Some(format!("{prefix}.command.{device}.{{type}}")),
            "Commands to a device; a request, whose reply is the outcome",
            &with(&of_device, down()),
            commands(nats_commands()),
        ),
    );
    add(
        "nats.command.child",
        nats_channel(
            Some(format!("{prefix}.command.{child}.{{type}}")),
            "Commands to a child by its gateway",
            &with(&of_child, down()),
            commands(nats_commands()),
        ),
    );
    let mut outcomes = of_outcomes();
    outcomes.push(EnvelopeType::CommandFailed);
    let outcomes = outcomes.into_iter().flat_map(|own| [STRUCTURED, NATS.0].map(|end| message_name(own, end)));
    add("nats.reply", nats_channel(None, "The reply subject of a request", &[], listed(outcomes)));
    Value::Object(channels)
}

fn nats_channel(address: Option<String>, description: &str, parameters: &[(&str, Value)], messages: Value) -> Value {
    let parameters: Map<String, Value> =
        parameters.iter().map(|(name, parameter)| ((*name).to_owned(), parameter.clone())).collect();
    json!({
        "address": address,
        "description": description,
        "servers": [reference("servers", "nats")],
        "parameters": parameters,
        "messages": messages,
    })
}

fn parameter(name: &'static str) -> (&'static str, Value) {
    (name, json!({ "description": "Percent-encoded but for A-Z a-z 0-9 _ -" }))
}

fn operations(config: &Config) -> Value {
    let send = |channel: &str, summary: &str| json!({ "action": "send", "channel": reference("channels", channel), "summary": summary });
    let receive = |channel: &str, reply: &str, summary: &str, bindings: Value| {
        json!({
            "action": "receive",
            "channel": reference("channels", channel),
            "summary": summary,
            "reply": { "channel": reference("channels", reply) },
            "bindings": bindings,
        })
    };
    let group = json!({ "kafka": { "groupId": word(&config.kafka.group), "bindingVersion": KAFKA_BINDING } });
    let nats = json!({ "nats": { "bindingVersion": NATS_BINDING } });
    json!({
        "kafka.device": send("kafka.device", "Messages, presence and heartbeats to Kafka"),
        "kafka.rejected": send("kafka.rejected", "What was not understood to Kafka"),
        "kafka.command": receive("kafka.command", "kafka.reply", "Commands from Kafka", group),
        "nats.device": send("nats.device", "Messages and presence of devices into the stream"),
        "nats.device.event": send("nats.device.event", "Events of devices into the stream"),
        "nats.child": send("nats.child", "Messages and presence of children into the stream"),
        "nats.child.event": send("nats.child.event", "Events of children into the stream"),
        "nats.rejected": send("nats.rejected", "What was not understood into the stream"),
        "nats.replica": send("nats.replica", "Heartbeats into the stream"),
        "nats.command": receive("nats.command", "nats.reply", "Commands from NATS", nats.clone()),
        "nats.command.child": receive("nats.command.child", "nats.reply", "Commands to children from NATS", nats),
    })
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

fn schemas(config: &Config) -> Value {
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
    let more = |object: Object| object.perhaps("traceparent", text()).perhaps("correlation-id", text());
    add(
        "headers.structured".to_owned(),
        more(Object::default().with("content-type", word("application/cloudevents+json"))).open(),
    );
    for (end, start) in [KAFKA, NATS] {
        add(format!("headers.{end}"), more(binary_headers(start)).open());
    }
    let of_command = || more(Object::default());
    add("headers.command".to_owned(), of_command().open());
    let flag = || pattern("^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]|-?[0-9]+)?$");
    let raw = of_command()
        .perhaps("messageId", text())
        .perhaps("timeout", pattern("^[0-9]+$"))
        .perhaps("async", flag())
        .perhaps("sendAndForget", flag());
    add("headers.command.raw".to_owned(), raw.open());
    Value::Object(schemas)
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

/// Messages of a channel, each by its own name.
fn listed(names: impl Iterator<Item = String>) -> Value {
    names.map(|name| (name.clone(), reference("components/messages", &name))).collect::<Map<_, _>>().into()
}

fn reference(place: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/{place}/{name}") })
}

fn ends(types: &[EnvelopeType]) -> Vec<&'static str> {
    types.iter().map(|own| own.end()).collect()
}
