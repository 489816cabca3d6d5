//! Explanation of a message or a command, as JSON for people and scripts.

use bytes::BytesMut;

use super::child::Children;
use super::command::{Command, CommandBody, CommandError};
use super::downlink::Code;
use super::envelope::{Encoder, Mode, Reason, Source, subject_too_long};
use super::id::{DeviceId, ProductId};
use super::json::write_string;
use super::message::write_base64;
use super::translate::{Published, Translated, translate};
use super::uplink::{Addressing, Channel, Record};
use crate::codec::mqtt::encode::publish_bytes;

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
    /// Explanation of a device's message that is published with QoS 1: an object with `envelope`, `rejected`, `foreign`,
    /// `answer`, `nats` and `kafka`, each `null` where there is none. The envelope has no `sessionid`, as there is no
    /// session.
    ///
    /// `session` is the connected product and device; `None` for those that the topic names. A topic whose product or
    /// device can be no id is foreign to every session.
    pub fn message(
        &self,
        topic: &str,
        payload: &[u8],
        session: Option<(&str, &str)>,
        children: &dyn Children,
    ) -> String {
        let (product, device) = session.unwrap_or_else(|| own(topic));
        if ProductId::new(product).is_err() || DeviceId::new(device).is_err() {
            return explanation(None, None, true, None, None, None);
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
            Translated::Foreign => explanation(None, None, true, None, None, None),
            Translated::TimeSync(answer) => explanation(None, None, false, Some(&answer), None, None),
            Translated::Rejected(rejected) => {
                let rejection = rejected.rejection();
                let record = self.encoder().rejected(&source, &rejection, None);
                self.shown(&record, device, Some((rejection.reason, rejection.detail)))
            }
            Translated::Message { route, message, about_product } => {
                let source = Source { about_product: about_product.as_ref().map(ProductId::as_str), ..source };
                let record = self.encoder().device(&source, &route, &message, None);
                if record.channel == Channel::Rejected {
                    return self.shown(&record, device, Some((Reason::TooLarge, &subject_too_long())));
                }
                self.shown(&record, route.about(), None)
            }
        }
    }

    /// Explanation of a command given as JSON: an object with `topic`, `body` (for `DIRECT` `body_base64`), `closes`,
    /// `unsupported` and, for what is refused, `error` with `code` and `message`.
    pub fn command(&self, json: &[u8]) -> String {
        let mut out = Vec::new();
        let command = match Command::from_json(json) {
            Ok(command) => command,
            Err(error) => {
                let (unsupported, code) = match &error {
                    CommandError::Unreadable(..) | CommandError::Parameter(..) => (false, Code::ParameterError),
                    CommandError::Unsupported(..) => (true, Code::UnsupportedMessage),
                };
                out.extend_from_slice(b"{\"topic\":null,\"body\":null,\"closes\":false,\"unsupported\":");
                out.extend_from_slice(unsupported.to_string().as_bytes());
                out.extend_from_slice(b",\"error\":{\"code\":\"");
                out.extend_from_slice(code.as_str().as_bytes());
                out.extend_from_slice(b"\",\"message\":");
                write_string(&mut out, error.text());
                out.extend_from_slice(b"}}");
                return lossless(out);
            }
        };
        if command.closes() {
            out.extend_from_slice(b"{\"topic\":null,\"body\":null,\"closes\":true");
        } else {
            let now = self.now_ms.to_string();
            let timestamp = command.timestamp.unwrap_or(i64::try_from(self.now_ms).unwrap_or(i64::MAX));
            let packet = command.downlink(command.message_id.as_deref().unwrap_or(&now), timestamp);
            out.extend_from_slice(b"{\"topic\":");
            write_string(&mut out, &packet.topic);
            match command.body {
                CommandBody::Members(_) => {
                    out.extend_from_slice(b",\"body\":");
                    out.extend_from_slice(&packet.body);
                }
                CommandBody::Raw(_) => {
                    out.extend_from_slice(b",\"body\":null,\"body_base64\":\"");
                    let mut base64 = BytesMut::new();
                    write_base64(&mut base64, &packet.body);
                    out.extend_from_slice(&base64);
                    out.push(b'"');
                }
            }
            out.extend_from_slice(b",\"closes\":false");
        }
        out.extend_from_slice(b",\"unsupported\":false,\"error\":null}");
        lossless(out)
    }

    fn encoder(&self) -> Encoder {
        let addressing = Addressing::Subject(self.subject_prefix.clone());
        let mut encoder = Encoder::new(Mode::Structured, addressing, "explain".to_owned(), self.seed);
        encoder.set_now(self.now_ms);
        encoder
    }

    fn shown(&self, record: &Record, key: &str, rejected: Option<(Reason, &str)>) -> String {
        let topic = if rejected.is_some() { &self.kafka_rejected_topic } else { &self.kafka_topic };
        let kafka = Some((topic.as_str(), key));
        explanation(Some(&record.payload), rejected, false, None, Some(&record.address), kafka)
    }
}

/// Product and device that a topic names; empty where it names none.
fn own(topic: &str) -> (&str, &str) {
    let mut segments = topic.strip_prefix('/').unwrap_or(topic).split('/');
    (segments.next().unwrap_or_default(), segments.next().unwrap_or_default())
}

fn explanation(
    envelope: Option<&[u8]>,
    rejected: Option<(Reason, &str)>,
    foreign: bool,
    answer: Option<&[u8]>,
    subject: Option<&[u8]>,
    kafka: Option<(&str, &str)>,
) -> String {
    let mut out = Vec::new();
    out.extend_from_slice(b"{\"envelope\":");
    out.extend_from_slice(envelope.unwrap_or(b"null"));
    out.extend_from_slice(b",\"rejected\":");
    match rejected {
        Some((reason, detail)) => {
            out.extend_from_slice(b"{\"reason\":\"");
            out.extend_from_slice(reason.as_str().as_bytes());
            out.extend_from_slice(b"\",\"detail\":");
            write_string(&mut out, detail);
            out.push(b'}');
        }
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"foreign\":");
    out.extend_from_slice(foreign.to_string().as_bytes());
    out.extend_from_slice(b",\"answer\":");
    out.extend_from_slice(answer.unwrap_or(b"null"));
    out.extend_from_slice(b",\"nats\":");
    match subject {
        Some(subject) => {
            out.extend_from_slice(b"{\"subject\":");
            write_string(&mut out, &String::from_utf8_lossy(subject));
            out.push(b'}');
        }
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"kafka\":");
    match kafka {
        Some((topic, key)) => {
            out.extend_from_slice(b"{\"topic\":");
            write_string(&mut out, topic);
            out.extend_from_slice(b",\"key\":");
            write_string(&mut out, key);
            out.push(b'}');
        }
        None => out.extend_from_slice(b"null"),
    }
    out.push(b'}');
    lossless(out)
}

/// Everything written here is UTF-8, the bodies of commands included.
fn lossless(out: Vec<u8>) -> String {
    String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
