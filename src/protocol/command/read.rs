//! Reading commands.

use std::borrow::Cow;
use std::fmt::Display;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::headers::{BODY_HEADERS, caller_id, timeout_ms};
use super::{Command, CommandBody, CommandError, CommandIdentity, UnreadableCommand};
use crate::protocol::address::from_token;
use crate::protocol::id::{DeviceId, ProductId};
use crate::protocol::json::{Kind, Member};
use crate::protocol::message::{FieldType, Value, field_type, key, last_of_each, timestamp};
use crate::protocol::topic::{MessageType, TOPIC_BYTES_MAX};
use crate::protocol::trace::TraceContext;

/// Base64 of callers, whether they pad it or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(super) fn from_subject(subject: &str, payload: &[u8]) -> Result<Command, CommandError> {
    let (identity, dotted) = address_of_subject(subject).map_err(|error| match last_of_each(payload) {
        Ok(members) => with_caller(error, &members),
        Err(_) => error,
    })?;
    if identity.message_type == Some(MessageType::Direct) {
        return finish(Reading::new(identity, CommandBody::Raw(payload.to_vec())));
    }
    let payload = if payload.is_empty() { b"{}" } else { payload };
    let members = last_of_each(payload).map_err(unreadable)?;
    read(identity, dotted, &members)
}

/// The address in a command's subject, and what names its type: all that follows the address.
fn address_of_subject(subject: &str) -> Result<(CommandIdentity, &str), CommandError> {
    let mut tokens = Tokens(Some(subject));
    let mut id = |name| {
        let token = tokens.next().ok_or_else(|| unreadable(format_args!("the subject has no {name}")))?;
        let id = from_token(token).ok_or_else(|| unreadable(format_args!("{name}: broken percent-encoding")))?;
        Ok::<_, CommandError>(id.into_owned())
    };
    let product = id("product")?;
    let device = id("device")?;
    let mut children = Vec::new();
    while let Some(behind) = tokens.behind("child") {
        tokens = behind;
        let token = tokens.next().ok_or_else(|| unreadable("the subject ends before the child"))?;
        let child = from_token(token).ok_or_else(|| unreadable("child: broken percent-encoding"))?;
        children.push(child.into_owned());
    }
    let dotted = tokens.0.unwrap_or_default();
    if dotted.is_empty() {
        return Err(unreadable("the subject names no message type"));
    }
    let mut identity = identity(product, device, children)?;
    identity.message_type = MessageType::from_dotted_down(dotted);
    Ok((identity, dotted))
}

/// The tokens of a subject that are not taken yet; `None` behind the last one.
struct Tokens<'a>(Option<&'a str>);

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let subject = self.0?;
        let (token, behind) = subject.split_once('.').map_or((subject, None), |(token, behind)| (token, Some(behind)));
        self.0 = behind;
        Some(token)
    }

    /// The tokens behind the next one, if that is this one.
    fn behind(&self, token: &str) -> Option<Self> {
        let mut tokens = Self(self.0);
        (tokens.next() == Some(token)).then_some(tokens)
    }
}

pub(super) fn from_json(json: &[u8]) -> Result<Command, CommandError> {
    let members = last_of_each(json).map_err(|error| with_payload(unreadable(error), json))?;
    let (identity, message_type) =
        address_of_json(&members).map_err(|error| with_payload(with_caller(error, &members), json))?;
    read(identity, &message_type, &members)
}

/// Keeps the beginning of a command for its outcome.
fn with_payload(mut error: CommandError, json: &[u8]) -> CommandError {
    if let CommandError::Unreadable(command) = &mut error {
        command.payload = json[..json.len().min(UnreadableCommand::PAYLOAD_BYTES_MAX)].to_vec();
    }
    error
}

/// The address in a command's JSON, and the name of its type.
fn address_of_json(members: &[Member<'_>]) -> Result<(CommandIdentity, String), CommandError> {
    let text = |name| {
        let Some(member) = members.iter().find(|member| key(member) == name) else { return Ok(None) };
        match Value::fit(FieldType::Text, member) {
            Ok(value) => Ok(value.and_then(|value| value.as_text()).filter(|text| !text.is_empty())),
            Err(()) => Err(unreadable(format_args!("{name} is not a text"))),
        }
    };
    let required = |name| Ok(text(name)?.ok_or_else(|| unreadable(format_args!("{name} is missing")))?.into_owned());
    let product = required("productId")?;
    let device = required("deviceId")?;
    let message_type = required("messageType")?;
    let (device, children) = match text("gatewayId")? {
        Some(gateway) if gateway != device => (gateway.into_owned(), vec![device]),
        _ => (device, Vec::new()),
    };
    let mut identity = identity(product, device, children)?;
    identity.message_type = MessageType::from_name(&message_type);
    Ok((identity, message_type))
}

fn identity(product: String, device: String, children: Vec<String>) -> Result<CommandIdentity, CommandError> {
    ProductId::check(&product).map_err(|error| unreadable(format_args!("product: {error}")))?;
    for id in children.iter().chain([&device]) {
        DeviceId::check(id).map_err(|error| unreadable(format_args!("device: {error}")))?;
    }
    Ok(CommandIdentity { product, device, children, ..CommandIdentity::default() })
}

fn unreadable(text: impl Display) -> CommandError {
    CommandError::unreadable(text.to_string())
}

/// Tells as much of the caller as its JSON holds, where that much can be read.
fn with_caller(error: CommandError, members: &[Member<'_>]) -> CommandError {
    let CommandError::Unreadable(mut command) = error else { return error };
    let mut reading = Reading::new(CommandIdentity::default(), CommandBody::Members(String::new()));
    // What else is wrong does not matter any more.
    let _ = read_common(&mut reading, members);
    command.message_id = reading.identity.message_id;
    command.correlation_id = reading.identity.correlation_id;
    command.trace = reading.identity.trace;
    command.members = UnreadableCommand::NAMES.into_iter().filter_map(|name| readable(name, members)).collect();
    CommandError::Unreadable(command)
}

/// A member that is a text, or is taken for one, and no longer than an id.
fn readable(name: &'static str, members: &[Member<'_>]) -> Option<(&'static str, String)> {
    let member = members.iter().find(|member| key(member) == name)?;
    let text = caller_id(name, &Value::fit(FieldType::Text, member).ok()??.as_text()?).ok()??;
    Some((name, text))
}

/// A command that is being read.
struct Reading {
    identity: CommandIdentity,
    timestamp: Option<i64>,
    timeout_ms: Option<u64>,
    is_async: bool,
    send_and_forget: bool,
    body: CommandBody,
}

impl Reading {
    fn new(identity: CommandIdentity, body: CommandBody) -> Self {
        Reading { identity, timestamp: None, timeout_ms: None, is_async: false, send_and_forget: false, body }
    }
}

/// Reads the members of a command whose address is known.
fn read(identity: CommandIdentity, type_name: &str, members: &[Member<'_>]) -> Result<Command, CommandError> {
    let mut reading = Reading::new(identity, CommandBody::Members(String::new()));
    // What the caller knows the command by comes first, so that every failure carries it.
    if let Err(text) = read_common(&mut reading, members) {
        return Err(CommandError::Parameter(Box::new(reading.identity), text));
    }
    let Some(message_type) = reading.identity.message_type.filter(|message_type| message_type.goes_down()) else {
        let text = format!("{type_name} does not go to devices");
        return Err(CommandError::Unsupported(Box::new(reading.identity), text));
    };
    let body = match message_type {
        MessageType::Direct => read_direct(members).map(CommandBody::Raw),
        _ => render(message_type, members).map(CommandBody::Members),
    };
    match body {
        Ok(body) => reading.body = body,
        Err(text) => return Err(CommandError::Parameter(Box::new(reading.identity), text)),
    }
    finish(reading)
}

fn finish(reading: Reading) -> Result<Command, CommandError> {
    let Reading { identity, timestamp, timeout_ms, is_async, send_and_forget, body } = reading;
    let Some(message_type) = identity.message_type else {
        return Err(CommandError::Unsupported(Box::new(identity), "no message type".to_owned()));
    };
    let command = Command {
        product: identity.product,
        device: identity.device,
        children: identity.children,
        message_type,
        message_id: identity.message_id,
        timestamp,
        timeout_ms,
        is_async,
        send_and_forget,
        correlation_id: identity.correlation_id,
        trace: identity.trace,
        about_product: identity.about_product,
        body,
    };
    if command.topic_bytes() > TOPIC_BYTES_MAX {
        return Err(command.refused(format!("the topic would have more than {TOPIC_BYTES_MAX} bytes")));
    }
    Ok(command)
}

fn expect<'a>(name: &str, expected: FieldType, member: &Member<'a>) -> Result<Option<Value<'a>>, String> {
    Value::fit(expected, member).map_err(|()| format!("{name} is not {}", expected.description()))
}

fn caller_id_of(name: &str, value: Option<Value<'_>>) -> Result<Option<String>, String> {
    value.and_then(|value| value.as_text()).map_or(Ok(None), |text| caller_id(name, &text))
}

fn read_common(reading: &mut Reading, members: &[Member<'_>]) -> Result<(), String> {
    let mut wrong = Ok(());
    for member in members {
        let read = match &*key(member) {
            "messageId" => expect("messageId", FieldType::Text, member)
                .and_then(|value| caller_id_of("messageId", value))
                .map(|message_id| reading.identity.message_id = message_id),
            "timestamp" => match timestamp(member) {
                Ok(timestamp) => {
                    reading.timestamp = timestamp;
                    Ok(())
                }
                Err(()) => Err("timestamp is not a whole number of 64 bits".to_owned()),
            },
            "headers" => expect("headers", FieldType::Object, member).and_then(|headers| match headers {
                Some(_) => read_headers(reading, member.value),
                None => Ok(()),
            }),
            _ => Ok(()),
        };
        wrong = wrong.and(read);
    }
    wrong
}

fn read_headers(reading: &mut Reading, headers: &str) -> Result<(), String> {
    let members = last_of_each(headers.as_bytes()).map_err(|error| format!("headers: {error}"))?;
    let mut wrong = Ok(());
    for member in &members {
        let name = key(member);
        let Some((name, expected)) = BODY_HEADERS.iter().find(|(header, _)| *header == name) else { continue };
        let value = expect(name, *expected, member).map_err(|text| format!("header {text}"));
        let read = match *name {
            "timeout" => value.and_then(|timeout| match timeout {
                Some(Value::Integer(ms)) => timeout_ms(ms).map(|ms| reading.timeout_ms = Some(ms)),
                _ => Ok(()),
            }),
            "async" => value.map(|flag| reading.is_async = flag == Some(Value::Bool(true))),
            "sendAndForget" => value.map(|flag| reading.send_and_forget = flag == Some(Value::Bool(true))),
            "correlation-id" => value
                .and_then(|value| caller_id_of("header correlation-id", value))
                .map(|id| reading.identity.correlation_id = id),
            // What is no traceparent counts for nothing (W3C Trace Context, section 4.3), whatever it is.
            _ => {
                let text = value.ok().flatten().and_then(|value| value.as_text());
                reading.identity.trace = text.and_then(|text| TraceContext::parse(&text));
                Ok(())
            }
        };
        wrong = wrong.and(read);
    }
    wrong
}

fn read_direct(members: &[Member<'_>]) -> Result<Vec<u8>, String> {
    let member = members.iter().find(|member| key(member) == "payload");
    let payload = match member {
        Some(member) if member.kind != Kind::Null => expect("payload", FieldType::Text, member)?,
        _ => None,
    };
    let text = payload.and_then(|payload| payload.as_text()).ok_or("payload is missing")?;
    BASE64.decode(text.as_bytes()).map_err(|error| format!("payload is not base64: {error}"))
}

/// The members that the device gets, in the command's order, each with a comma before it.
fn render(message_type: MessageType, members: &[Member<'_>]) -> Result<String, String> {
    let mut out = Vec::new();
    let invokes = message_type == MessageType::InvokeFunction;
    if invokes {
        render_function(&mut out, members)?;
    }
    let mut inputs_given = false;
    for member in members {
        let key = key(member);
        let value = match &*key {
            "messageType" | "messageId" | "timestamp" | "deviceId" | "productId" | "gatewayId" => continue,
            "function" | "functionId" if invokes => continue,
            "inputs" if invokes && member.kind == Kind::Object => {
                inputs_given = true;
                render_inputs(&mut out, member)?;
                continue;
            }
            name => match field_type(message_type, name) {
                None => Value::untouched(member),
                Some(expected) => match expect(name, expected, member)? {
                    Some(value) => value,
                    None => continue,
                },
            },
        };
        inputs_given |= key == "inputs";
        begin(&mut out, member.key);
        value.write(&mut out);
    }
    if invokes && !inputs_given {
        begin(&mut out, "inputs");
        out.extend_from_slice(b"[]");
    }
    String::from_utf8(out).map_err(|error| error.to_string())
}

fn begin(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Devices of the first generation read `function`, later ones `functionId`: both get the same value.
fn render_function(out: &mut Vec<u8>, members: &[Member<'_>]) -> Result<(), String> {
    let mut function: Option<(Value<'_>, Cow<'_, str>)> = None;
    for member in members {
        let name = key(member);
        if name != "function" && name != "functionId" {
            continue;
        }
        let Some(value) = expect(&name, FieldType::Text, member)? else { continue };
        let text = value.as_text().unwrap_or_default();
        match &function {
            Some((_, other)) if *other != text => return Err("function and functionId differ".to_owned()),
            _ => function = Some((value, text)),
        }
    }
    let (value, _) = function.filter(|(_, text)| !text.is_empty()).ok_or("functionId is missing")?;
    for name in ["function", "functionId"] {
        begin(out, name);
        value.write(out);
    }
    Ok(())
}

/// Writes `{"a":1}` as `[{"name":"a","value":1}]`.
fn render_inputs(out: &mut Vec<u8>, member: &Member<'_>) -> Result<(), String> {
    let inputs = last_of_each(member.value.as_bytes()).map_err(|error| format!("inputs: {error}"))?;
    begin(out, "inputs");
    out.push(b'[');
    for (index, input) in inputs.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"{\"name\":\"" } else { b",{\"name\":\"" });
        out.extend_from_slice(input.key.as_bytes());
        out.extend_from_slice(b"\",\"value\":");
        Value::untouched(input).write(out);
        out.push(b'}');
    }
    out.push(b']');
    Ok(())
}
