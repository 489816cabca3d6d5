//! Lines of a trace.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;

use super::envelope::{Envelope, Rejection};
use crate::protocol::clock::rfc3339;
use crate::protocol::command::CommandIdentity;
use crate::protocol::downlink::Code;
use crate::session::mqtt::Ending;
use crate::session::step::{Action, Carrier, Peer, Step, StoredAnswer};
use crate::telemetry::metric::{CoapRefusal, Label as _};

/// Bytes of a payload that a line shows at most.
const PAYLOAD_BYTES_MAX: usize = 512;

/// Bytes of a device's text, such as a topic, that a line shows at most.
const TEXT_BYTES_MAX: usize = 512;

/// One line; members that an event does not have are left out.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct TraceLine<'a> {
    time: String,
    replica_id: &'a str,
    device: Option<&'a str>,
    product: Option<&'a str>,
    peer: Option<String>,
    event: &'static str,
    text: String,
    #[serde(flatten)]
    more: More<'a>,
}

macro_rules! more {
    ($($name:ident: $type:ty),+ $(,)?) => {
        #[derive(Debug, Default, Serialize)]
        #[serde(rename_all = "camelCase")]
        struct More<'a> {
            $(#[serde(skip_serializing_if = "Option::is_none")] $name: Option<$type>),+
        }
    };
}

more! {
    child: &'a str,
    session: &'a str,
    version: &'a str,
    keep_alive: u16,
    reason: &'a str,
    detail: Cow<'a, str>,
    filter: &'a str,
    granted: u8,
    topic: &'a str,
    qos: u8,
    packet_id: u16,
    bytes: usize,
    payload: String,
    payload_base64: String,
    id: &'a str,
    r#type: &'a str,
    queue_ms: f64,
    ms: f64,
    answer: String,
    message_type: &'a str,
    message_id: &'a str,
    code: String,
    cause: &'a str,
    messages: usize,
    replicas: &'a [String],
    missing: &'a [String],
}

/// The line of a step.
pub(super) fn trace(
    replica_id: &str,
    now_ms: u64,
    peer: Peer<'_>,
    step: &Step<'_>,
    envelope: &mut Option<Envelope>,
) -> Bytes {
    let envelope = match step.action {
        Action::Envelope(record) | Action::Stored { record, .. } => {
            &*envelope.get_or_insert_with(|| Envelope::of(record))
        }
        _ => &Envelope::default(),
    };
    let peer = peer.text();
    let (event, text, more) = told(step, peer.as_deref().unwrap_or("?"), envelope);
    let named = |text| Some(text).filter(|text: &&str| !text.is_empty());
    let child = (step.about != step.device).then_some(step.about);
    let product = named(step.product).or(named(&envelope.product).filter(|_| child.is_none()));
    let more = More { child, ..more };
    let line =
        TraceLine { time: time(now_ms), replica_id, device: named(step.device), product, peer, event, text, more };
    write(&line)
}

/// The first line of what an operator follows: what he sees, on which replicas, and which of them he does not see.
pub fn following(replica_id: &str, now_ms: u64, text: String, replicas: &[String], missing: &[String]) -> Bytes {
    let more = More { replicas: Some(replicas), missing: Some(missing), ..More::default() };
    write(&TraceLine { time: time(now_ms), replica_id, event: "following", text, more, ..TraceLine::default() })
}

fn write(line: &TraceLine<'_>) -> Bytes {
    // Texts and finite numbers always become JSON.
    Bytes::from(serde_json::to_vec(line).unwrap_or_default())
}

fn time(ms: u64) -> String {
    let text = i64::try_from(ms).ok().and_then(rfc3339);
    text.map_or_else(String::new, |text| text.iter().copied().map(char::from).collect())
}

fn refused<'a>(device: &str, peer: &str, reason: &'a str, detail: String) -> (&'static str, String, More<'a>) {
    let colon = if detail.is_empty() { "" } else { ": " };
    let text = format!("{device} at {peer} is refused: {reason}{colon}{detail}");
    let detail = (!detail.is_empty()).then_some(detail.into());
    ("refused", text, More { reason: Some(reason), detail, ..More::default() })
}

/// Word, sentence and members of a step.
fn told<'a>(step: &Step<'a>, peer: &str, envelope: &'a Envelope) -> (&'static str, String, More<'a>) {
    let device = if step.device.is_empty() { "a client without an id" } else { cut(step.device) };
    match step.action {
        Action::Connect { session, version, keep_alive_secs } => {
            let text = format!("{device} is connected from {peer}: MQTT {version}, keep-alive {keep_alive_secs} s");
            let more = More {
                session: Some(session),
                version: Some(version),
                keep_alive: Some(keep_alive_secs),
                ..More::default()
            };
            ("connect", text, more)
        }
        Action::Refuse { reason, detail } => refused(device, peer, reason, detail.to_owned()),
        Action::RefuseRequest(request) => {
            refused(device, peer, CoapRefusal::from(request.refusal).text(), request.to_string())
        }
        Action::Subscribe { filter, granted } => {
            let filter = cut(filter);
            let text = match granted {
                Some(qos) => format!("{device} subscribes {filter} at QoS {}", qos as u8),
                None => format!("{device} subscribes {filter}, which is refused: no topic of the device, or too many"),
            };
            let granted = granted.map(|qos| qos as u8);
            ("subscribe", text, More { filter: Some(filter), granted, ..More::default() })
        }
        Action::Unsubscribe { filter } => {
            let filter = cut(filter);
            let text = format!("{device} unsubscribes {filter}");
            ("unsubscribe", text, More { filter: Some(filter), ..More::default() })
        }
        Action::Publish { topic, by, payload } => {
            let topic = cut(topic);
            let size = payload.map_or_else(|| "too many".to_owned(), |payload| payload.len().to_string());
            let (qos, packet_id) = match by {
                Carrier::Publish(qos, packet_id) => (Some(qos as u8), packet_id.map(|id| id.get())),
                Carrier::Will | Carrier::Coap => (None, None),
            };
            let by = match (by, packet_id, qos) {
                (Carrier::Will, ..) => "its will".to_owned(),
                (Carrier::Coap, ..) => "a request over CoAP".to_owned(),
                (_, Some(id), Some(qos)) => format!("QoS {qos}, packet {id}"),
                _ => "QoS 0".to_owned(),
            };
            let text = format!("{device} sends {size} bytes on {topic} ({by})");
            ("publish", text, More { topic: Some(topic), qos, packet_id, ..shown(payload) })
        }
        Action::Foreign { topic } => {
            let topic = cut(topic);
            let text = format!("{topic} belongs to another device: the message is not taken");
            ("foreign", text, More { topic: Some(topic), ..More::default() })
        }
        Action::TimeSync => ("reply", format!("{device} is told the time"), More::default()),
        Action::Envelope(_) => handed_over(envelope),
        Action::Stored { latency_us, queue_us, answer, .. } => {
            let answer = match answer {
                StoredAnswer::None => None,
                StoredAnswer::Puback(id) => Some(format!("PUBACK {id}")),
                StoredAnswer::Pubrec(id) => Some(format!("PUBREC {id}")),
                StoredAnswer::Coap(code) => Some(code.to_string()),
            };
            let sent = answer.as_deref().map(|answer| format!(", {answer} is sent")).unwrap_or_default();
            let text = format!("the queue has envelope {} after {} ms{sent}", envelope.id, ms(queue_us));
            let more = More {
                id: Some(&envelope.id),
                queue_ms: Some(ms(queue_us)),
                ms: Some(ms(latency_us)),
                answer,
                ..More::default()
            };
            ("acknowledged", text, more)
        }
        Action::GivenUp { messages } => {
            let text = format!("the queue did not acknowledge {messages} messages of {device} in time");
            ("given_up", text, More { messages: Some(messages), ..More::default() })
        }
        Action::Respond(code) => {
            let text = format!("{device} gets the response {code}");
            ("response", text, More { code: Some(code.to_string()), ..More::default() })
        }
        Action::Command(identity) => {
            let text = format!("a command for {}: {}", identity.about(), named(identity));
            ("command", text, of_command(identity))
        }
        Action::Send { identity, topic, qos, payload } => {
            let qos = qos as u8;
            let text = format!("{} goes to {device} on {topic} (QoS {qos}, {} bytes)", named(identity), payload.len());
            let command = of_command(identity);
            let (message_type, message_id) = (command.message_type, command.message_id);
            let more =
                More { topic: Some(cut(topic)), qos: Some(qos), message_type, message_id, ..shown(Some(payload)) };
            ("sent", text, more)
        }
        Action::Outcome { identity, code, text, latency_us } => outcome(identity, code, text, latency_us),
        Action::Disconnect(ending) => {
            let cause = ending.text();
            let text = match ending {
                Ending::Disconnected => format!("{device} said DISCONNECT"),
                _ => format!("the session of {device} ends: {cause}"),
            };
            ("disconnect", text, More { cause: Some(cause), ..More::default() })
        }
    }
}

fn handed_over(envelope: &Envelope) -> (&'static str, String, More<'_>) {
    let Envelope { id, kind, rejection, .. } = envelope;
    let more = More { id: Some(id), r#type: Some(kind), ..More::default() };
    let Some(Rejection { reason, detail }) = rejection else {
        return ("envelope", format!("envelope {kind} {id} goes to the queue"), more);
    };
    let text = format!("rejected: {reason}: {detail}; envelope {id} goes to the queue");
    ("rejected", text, More { reason: Some(reason), detail: Some(detail.into()), ..more })
}

fn outcome<'a>(
    identity: &'a CommandIdentity,
    code: Option<Code>,
    text: &str,
    latency_us: u64,
) -> (&'static str, String, More<'a>) {
    let (about, command, took) = (identity.about(), named(identity), ms(latency_us));
    let more = More { ms: Some(took), code: code.map(|code| code.as_str().to_owned()), ..of_command(identity) };
    match code {
        None => ("reply", format!("{about} answered {command} after {took} ms"), more),
        Some(Code::RequestHandling) => {
            ("outcome", format!("{command} is on its way, and nobody waits for a reply"), more)
        }
        Some(code) => ("outcome", format!("{command} failed after {took} ms: {}: {text}", code.as_str()), more),
    }
}

/// Type and id of a command.
fn named(identity: &CommandIdentity) -> String {
    let More { message_type, message_id, .. } = of_command(identity);
    format!("{} {}", message_type.unwrap_or("?"), message_id.unwrap_or("?"))
}

fn of_command(identity: &CommandIdentity) -> More<'_> {
    More {
        message_type: identity.message_type.map(|own| own.name()),
        message_id: identity.message_id.as_deref(),
        ..More::default()
    }
}

/// Length of a payload, and its beginning as a text, or as base64 where it is none.
fn shown<'a>(payload: Option<&[u8]>) -> More<'a> {
    let Some(payload) = payload else { return More::default() };
    let beginning = &payload[..payload.len().min(PAYLOAD_BYTES_MAX)];
    let text = match std::str::from_utf8(beginning) {
        Ok(text) => Some(text),
        // It was cut within a character.
        Err(error) if error.error_len().is_none() && beginning.len() < payload.len() => {
            std::str::from_utf8(&beginning[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    let bytes = Some(payload.len());
    match text {
        Some(text) => More { bytes, payload: Some(text.to_owned()), ..More::default() },
        None => More { bytes, payload_base64: Some(STANDARD.encode(beginning)), ..More::default() },
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

/// Milliseconds with a tenth of one.
#[expect(clippy::cast_precision_loss, reason = "durations are far below 2^52 us")]
fn ms(us: u64) -> f64 {
    ((us + 50) / 100) as f64 / 10.0
}
