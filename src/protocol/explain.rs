//! Explanation of a message or a command, for people and, as JSON, for scripts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::child::Children;
use super::command::{Command, CommandBody, CommandError};
use super::downlink::Code;
use super::envelope::{Encoder, Mode, Reason, Source, subject_too_long};
use super::id::{DeviceId, ProductId};
use super::json::write_string;
use super::translate::{Published, Translated, translate};
use super::uplink::{Addressing, Channel, Record};
use crate::codec::mqtt::encode::publish_bytes;

/// Explanation of a device's message that is published with QoS 1. The envelope has no `sessionid`, as there is no session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageExplanation {
    /// The envelope, as JSON.
    pub envelope: Option<String>,
    /// Reason and detail of a rejection.
    pub rejected: Option<(Reason, String)>,
    /// Whether the topic belongs to somebody else.
    pub foreign: bool,
    /// The answer to a question for the time, as JSON.
    pub answer: Option<String>,
    /// The record's subject on NATS.
    pub subject: Option<String>,
    /// The record's topic and key on Kafka.
    pub kafka: Option<(String, String)>,
}

/// Explanation of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandExplanation {
    /// The topic on which it goes out.
    pub topic: Option<String>,
    /// Its body, as JSON.
    pub body: Option<String>,
    /// The body of `DIRECT`.
    pub body_base64: Option<String>,
    /// Whether it ends the session.
    pub closes: bool,
    /// Code and text of a command that is refused.
    pub error: Option<(Code, String)>,
}

/// Parameters of an explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explainer {
    /// Prefix of NATS subjects, without a trailing dot.
    pub subject_prefix: String,
    /// Kafka's topic of device messages.
    pub kafka_topic: String,
    /// Kafka's topic of what was rejected.
    pub kafka_rejected_topic: String,
    /// Largest packet, in bytes.
    pub packet_bytes_max: usize,
    /// Time of receipt, ms since 1970.
    pub now_ms: u64,
    /// Seed of the envelope's id.
    pub seed: u128,
}

impl Explainer {
    /// Explanation of a device's message.
    ///
    /// `session` is the connected product and device; `None` for those that the topic names. A topic whose product or
    /// device can be no id is foreign to every session.
    pub fn message(
        &self,
        topic: &str,
        payload: &[u8],
        session: Option<(&str, &str)>,
        children: &dyn Children,
    ) -> MessageExplanation {
        let foreign = || MessageExplanation { foreign: true, ..MessageExplanation::default() };
        let (product, device) = session.unwrap_or_else(|| own(topic));
        if ProductId::new(product).is_err() || DeviceId::new(device).is_err() {
            return foreign();
        }
        let source = Source { product, device, session: None, about_product: None };
        let fits = publish_bytes(topic, payload) <= self.packet_bytes_max;
        let published = Published {
            product,
            device,
            topic,
            payload: Some(payload).filter(|_| fits),
            packet_bytes_max: self.packet_bytes_max,
            now_ms: self.now_ms,
        };
        match translate(published, children) {
            Translated::Foreign => foreign(),
            Translated::TimeSync(answer) => {
                MessageExplanation { answer: Some(text(&answer)), ..MessageExplanation::default() }
            }
            Translated::Rejected(rejected) => {
                let rejection = rejected.rejection();
                let record = self.encoder().rejected(&source, &rejection, None);
                self.stored(&record, device, Some((rejection.reason, rejection.detail.to_owned())))
            }
            Translated::Message { route, message, about_product } => {
                let source = Source { about_product: about_product.as_ref().map(ProductId::as_str), ..source };
                let record = self.encoder().device(&source, &route, &message, None);
                if record.channel == Channel::Rejected {
                    return self.stored(&record, device, Some((Reason::TooLarge, subject_too_long())));
                }
                self.stored(&record, route.about(), None)
            }
        }
    }

    /// Explanation of a command given as JSON.
    pub fn command(&self, json: &[u8]) -> CommandExplanation {
        let command = match Command::from_json(json) {
            Ok(command) => command,
            Err(error) => {
                let code = match &error {
                    CommandError::Unreadable(..) | CommandError::Parameter(..) => Code::ParameterError,
                    CommandError::Unsupported(..) => Code::UnsupportedMessage,
                };
                let error = Some((code, error.text().to_owned()));
                return CommandExplanation { error, ..CommandExplanation::default() };
            }
        };
        if command.closes() {
            return CommandExplanation { closes: true, ..CommandExplanation::default() };
        }
        let now = self.now_ms.to_string();
        let timestamp = command.timestamp.unwrap_or(i64::try_from(self.now_ms).unwrap_or(i64::MAX));
        let packet = command.downlink(command.message_id.as_deref().unwrap_or(&now), timestamp);
        let (body, body_base64) = match command.body {
            CommandBody::Members(_) => (Some(text(&packet.body)), None),
            CommandBody::Raw(_) => (None, Some(STANDARD.encode(&packet.body))),
        };
        CommandExplanation { topic: Some(packet.topic), body, body_base64, ..CommandExplanation::default() }
    }

    fn encoder(&self) -> Encoder {
        let addressing = Addressing::Subject(self.subject_prefix.clone());
        let mut encoder = Encoder::new(Mode::Structured, addressing, "explain".to_owned(), self.seed);
        encoder.set_now(self.now_ms);
        encoder
    }

    fn stored(&self, record: &Record, key: &str, rejected: Option<(Reason, String)>) -> MessageExplanation {
        let topic = if rejected.is_some() { &self.kafka_rejected_topic } else { &self.kafka_topic };
        MessageExplanation {
            envelope: Some(text(&record.payload)),
            rejected,
            subject: Some(text(&record.address)),
            kafka: Some((topic.clone(), key.to_owned())),
            ..MessageExplanation::default()
        }
    }
}

impl MessageExplanation {
    /// An object with `envelope`, `rejected`, `foreign`, `answer`, `nats` and `kafka`, each `null` where there is none.
    pub fn json(&self) -> String {
        let rejected = self.rejected.as_ref();
        let rejected = rejected
            .map(|(reason, detail)| format!(r#"{{"reason":{},"detail":{}}}"#, string(reason.as_str()), string(detail)));
        let kafka = self.kafka.as_ref();
        format!(
            r#"{{"envelope":{},"rejected":{},"foreign":{},"answer":{},"nats":{},"kafka":{}}}"#,
            or_null(self.envelope.clone()),
            or_null(rejected),
            self.foreign,
            or_null(self.answer.clone()),
            or_null(self.subject.as_ref().map(|subject| format!(r#"{{"subject":{}}}"#, string(subject)))),
            or_null(kafka.map(|(topic, key)| format!(r#"{{"topic":{},"key":{}}}"#, string(topic), string(key)))),
        )
    }
}

impl CommandExplanation {
    /// Whether it is refused because no device takes such a command.
    pub fn is_unsupported(&self) -> bool {
        matches!(self.error, Some((Code::UnsupportedMessage, _)))
    }

    /// An object with `topic`, `body`, for `DIRECT` `body_base64`, `closes`, `unsupported` and, for what is refused, `error` with
    /// `code` and `message`.
    pub fn json(&self) -> String {
        let base64 = self.body_base64.as_ref().map(|base64| format!(r#","body_base64":{}"#, string(base64)));
        let error = self.error.as_ref();
        let error = error
            .map(|(code, message)| format!(r#"{{"code":{},"message":{}}}"#, string(code.as_str()), string(message)));
        format!(
            r#"{{"topic":{},"body":{}{},"closes":{},"unsupported":{},"error":{}}}"#,
            or_null(self.topic.as_deref().map(string)),
            or_null(self.body.clone()),
            base64.unwrap_or_default(),
            self.closes,
            self.is_unsupported(),
            or_null(error),
        )
    }
}

/// Product and device that a topic names; empty where it names none.
fn own(topic: &str) -> (&str, &str) {
    let mut segments = topic.strip_prefix('/').unwrap_or(topic).split('/');
    (segments.next().unwrap_or_default(), segments.next().unwrap_or_default())
}

/// Whatever the protocol writes is UTF-8, the bodies of commands included.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A text as JSON.
fn string(value: &str) -> String {
    let mut json = Vec::new();
    write_string(&mut json, value);
    text(&json)
}

fn or_null(json: Option<String>) -> String {
    json.unwrap_or_else(|| "null".to_owned())
}
