//! Schemas of envelopes and of their data, out of the tables of types and fields.

use serde_json::{Value, json};

use super::object::{
    Object, base64, count, described, document, either, field, filled, id, integer, one_of, pattern, text, time, word,
};
use crate::protocol::downlink::Code;
use crate::protocol::envelope::{Cause, EnvelopeType, Reason};
use crate::protocol::message::{defaults, fields};
use crate::protocol::topic::MessageType;

/// Envelopes of a type that have one author and one form.
pub(super) struct Form {
    title: &'static str,
    attributes: Object,
    data: Value,
}

impl Form {
    fn envelope(&self) -> Value {
        let mut schema = self.attributes.clone().with("data", self.data.clone()).closed();
        schema["title"] = self.title.into();
        schema
    }

    fn data(&self) -> Value {
        let mut schema = self.data.clone();
        schema["title"] = self.title.into();
        schema
    }

    /// The same as an outcome: with what its caller knows the command by.
    fn correlated(self) -> Self {
        Self { attributes: self.attributes.require("correlationid"), ..self }
    }
}

/// Whole envelopes of a type: the value in structured mode, and on stdout.
pub(super) fn envelope(envelope_type: EnvelopeType) -> Value {
    let forms = forms(envelope_type);
    let schema = either(forms.iter().map(Form::envelope).collect());
    document("envelope", envelope_type.end(), &format!("Envelopes of the type {envelope_type}"), schema)
}

/// The data of envelopes of a type: the value in binary mode. Some forms are told apart by the attributes alone.
pub(super) fn data(envelope_type: EnvelopeType) -> Value {
    let mut forms: Vec<Value> = forms(envelope_type).iter().map(Form::data).collect();
    let schema = if forms.len() == 1 { forms.remove(0) } else { json!({ "anyOf": forms }) };
    document("data", envelope_type.end(), &format!("Data of the envelopes of the type {envelope_type}"), schema)
}

/// Outcomes of a command: the device's reply, or an envelope of the bridge.
pub(super) fn outcome(command: MessageType) -> Value {
    let replies = MessageType::all().filter(|reply| reply.answers() == Some(command));
    let mut forms: Vec<Form> = replies.map(|reply| of_device(reply).correlated()).collect();
    forms.extend(outcomes(command.reply().unwrap_or(MessageType::Acknowledge)));
    let schema = either(forms.iter().map(Form::envelope).collect());
    document("outcome", command.name(), &format!("Outcomes of the command {}", command.name()), schema)
}

/// Every attribute that an envelope can have, with its schema.
pub(super) fn attributes() -> Object {
    let types = EnvelopeType::all().map(|envelope_type| envelope_type.to_string());
    about(head(one_of(types), &["device", "bridge"]), "^(/|urn:jetlinks-bridge:).+$")
        .perhaps("subject", text())
        .perhaps("productid", id())
        .perhaps("deviceid", id())
        .perhaps("gatewayid", id())
        .perhaps("sessionid", ulid())
        .perhaps("replicaid", filled())
        .perhaps("traceparent", traceparent())
        .perhaps("correlationid", filled())
}

fn forms(envelope_type: EnvelopeType) -> Vec<Form> {
    match envelope_type {
        EnvelopeType::Device(message_type) => {
            let mut forms = Vec::new();
            if message_type.goes_up() {
                forms.push(of_device(message_type));
            }
            forms.extend(presence(message_type));
            let is_reply = MessageType::all().any(|command| command.reply() == Some(message_type));
            if is_reply || message_type == MessageType::Acknowledge {
                forms.extend(outcomes(message_type));
            }
            forms
        }
        EnvelopeType::Rejected => vec![rejected()],
        EnvelopeType::Replica => vec![replica()],
        EnvelopeType::CommandFailed => vec![command_failed()],
    }
}

/// The attributes of all envelopes but `source`.
fn head(envelope_type: Value, origin: &[&'static str]) -> Object {
    let origin = match origin {
        [only] => word(only),
        several => one_of(several.iter().copied()),
    };
    Object::default()
        .with("specversion", word("1.0"))
        .with("id", described(ulid(), "Copies of a record have the same one"))
        .with("type", envelope_type)
        .with("time", described(time(), "Time of the message"))
        .with("recordedtime", described(time(), "Time at which the bridge took the message"))
        .with("datacontenttype", word("application/json"))
        .with("origin", origin)
}

fn about(object: Object, source: &str) -> Object {
    object.with("source", json!({ "type": "string", "format": "uri-reference", "pattern": source }))
}

fn of_replica(envelope_type: EnvelopeType) -> Object {
    about(head(word(&envelope_type.to_string()), &["bridge"]), "^urn:jetlinks-bridge:.+$")
}

fn about_device(envelope_type: EnvelopeType, origin: &'static str) -> Object {
    about(head(word(&envelope_type.to_string()), &[origin]), "^/[^/]+/[^/]+(/child/[^/]+)*$")
        .with("productid", id())
        .with("deviceid", id())
}

/// The beginning of every message's data.
fn message(message_type: MessageType) -> Object {
    Object::default()
        .with("messageType", word(message_type.name()))
        .with("deviceId", id())
        .with("timestamp", described(integer(), "ms since 1970"))
}

fn of_device(message_type: MessageType) -> Form {
    let envelope_type = EnvelopeType::Device(message_type);
    let mut attributes = about_device(envelope_type, "device")
        .perhaps("gatewayid", id())
        .perhaps("sessionid", ulid())
        .perhaps("traceparent", traceparent());
    let mut data = message(message_type);
    for (name, field_type) in fields(message_type) {
        data = data.perhaps(name, field(field_type));
    }
    for (name, _) in defaults(message_type) {
        data = data.require(name);
    }
    if message_type == MessageType::Event {
        attributes = attributes.with("subject", event());
        data = data.with("event", event());
    }
    if message_type.answers().is_some() {
        attributes = attributes.perhaps("correlationid", filled());
    }
    let data = match message_type {
        // Its bytes have no members.
        MessageType::Direct => message(message_type).with("payload", base64()).closed(),
        _ => data.open(),
    };
    Form { title: "Message of a device", attributes, data }
}

fn presence(message_type: MessageType) -> Option<Form> {
    let (title, headers) = match message_type {
        MessageType::Online => (
            "Presence: a session was accepted",
            Object::default().with("cliAddr", described(text(), "Address of the client")),
        ),
        MessageType::Offline => {
            let causes = one_of(Cause::ALL.map(Cause::as_str));
            ("Presence: a session ended", Object::default().with("cause", causes))
        }
        _ => return None,
    };
    let attributes = about_device(EnvelopeType::Device(message_type), "bridge")
        .perhaps("gatewayid", id())
        .with("sessionid", ulid())
        .with("replicaid", filled());
    Some(Form { title, attributes, data: message(message_type).with("headers", headers.closed()).closed() })
}

/// Outcomes that the bridge writes itself.
fn outcomes(message_type: MessageType) -> [Form; 2] {
    let attributes = about_device(EnvelopeType::Device(message_type), "bridge")
        .perhaps("gatewayid", id())
        .perhaps("traceparent", traceparent())
        .perhaps("correlationid", filled());
    let data = message(message_type).perhaps("messageId", text());
    let well = data
        .clone()
        .with("success", json!({ "type": "boolean", "const": true }))
        .perhaps("code", word(Code::RequestHandling.as_str()));
    let failures = Code::ALL.into_iter().filter(|code| *code != Code::RequestHandling);
    let failed = data
        .with("success", json!({ "type": "boolean", "const": false }))
        .with("code", one_of(failures.map(Code::as_str)))
        .with("message", text());
    [
        Form { title: "The bridge carried the command out", attributes: attributes.clone(), data: well.closed() },
        Form { title: "The command failed", attributes, data: failed.closed() },
    ]
}

fn rejected() -> Form {
    let attributes = about_device(EnvelopeType::Rejected, "bridge")
        .perhaps("sessionid", ulid())
        .perhaps("traceparent", traceparent());
    let data = |reasons: Vec<&'static str>| {
        Object::default().with("topic", text()).with("reason", one_of(reasons)).with("detail", text())
    };
    let (large, others): (Vec<_>, Vec<_>) = Reason::ALL.into_iter().partition(|reason| *reason == Reason::TooLarge);
    let words = |reasons: Vec<Reason>| reasons.into_iter().map(Reason::as_str).collect();
    let others = data(words(others)).with("payload_base64", base64()).closed();
    Form { title: "Rejected message", attributes, data: either(vec![others, data(words(large)).closed()]) }
}

fn replica() -> Form {
    let attributes = of_replica(EnvelopeType::Replica).with("replicaid", filled());
    let interval = described(count(), "ms until the next one");
    let data = Object::default().with("replicaid", filled()).with("sessions", count()).with("interval_ms", interval);
    Form { title: "Heartbeat of a replica", attributes, data: data.closed() }
}

fn command_failed() -> Form {
    let attributes = of_replica(EnvelopeType::CommandFailed)
        .perhaps("traceparent", traceparent())
        .perhaps("correlationid", filled());
    let data = Object::default()
        .with("code", word(Code::ParameterError.as_str()))
        .with("message", text())
        .perhaps("messageId", text())
        .perhaps("productId", text())
        .perhaps("deviceId", text())
        .perhaps("gatewayId", text())
        .perhaps("messageType", text())
        .perhaps("topic", described(text(), "Topic of the record, from Kafka"))
        .perhaps("partition", described(count(), "Partition of the record, from Kafka"))
        .perhaps("offset", described(count(), "Offset of the record, from Kafka"))
        .perhaps("payload_base64", described(base64(), "Beginning of what came, from Kafka and stdin"));
    Form { title: "What cannot be read as a command", attributes, data: data.closed() }
}

fn event() -> Value {
    pattern(r"^[^/+#\x00-\x1f\x7f-\x9f]+$")
}

fn ulid() -> Value {
    described(pattern("^[0-7][0-9A-HJKMNP-TV-Z]{25}$"), "ULID")
}

fn traceparent() -> Value {
    described(pattern("^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"), "W3C Trace Context")
}
