//! Says what the bridge would make of a message or a command, as JSON for people and scripts.

use bytes::BytesMut;

use super::command::{Command, CommandBody, CommandError};
use super::downlink::Code;
use super::envelope::{Encoder, Mode, Reason, Rejection, Source};
use super::json::write_string;
use super::message::{Undecodable, decode, time_sync_answer, write_base64};
use super::topic::{TopicError, Upward, parse_up};
use super::uplink::{Addressing, Channel, Record};

/// What an explanation depends on beside its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explainer {
    /// Prefix of NATS subjects, without a trailing dot.
    pub subject_prefix: String,
    /// Kafka's topic of device messages.
    pub kafka_topic: String,
    /// Kafka's topic of what was rejected.
    pub kafka_rejected_topic: String,
    /// Longest payload, in bytes.
    pub packet_bytes_max: usize,
    /// Time of receipt, ms since 1970.
    pub now_ms: u64,
    /// What the envelope's id follows from.
    pub seed: u128,
}

impl Explainer {
    /// What becomes of a device's message: an object with `envelope`, `rejected`, `foreign`, `answer`, `nats` and
    /// `kafka`, each `null` where there is none. The envelope has no `sessionid`, as there is no session.
    ///
    /// `session` is the connected product and device; `None` for those that the topic names.
    pub fn message(&self, topic: &str, payload: &[u8], session: Option<(&str, &str)>) -> String {
        let (product, device) = session.unwrap_or_else(|| own(topic));
        let source = Source { product, device, session: None, about_product: None };
        let upward = match parse_up(topic, product, device) {
            Err(TopicError::Foreign) => return explanation(None, None, true, None, None, None),
            _ if payload.len() > self.packet_bytes_max => {
                let detail = format!("the payload has more than {} bytes", self.packet_bytes_max);
                return self.rejected(&source, topic, None, Reason::TooLarge, &detail);
            }
            Err(error @ TopicError::TooLarge) => {
                return self.rejected(&source, topic, None, Reason::TooLarge, &error.to_string());
            }
            Err(error @ TopicError::Unknown) => {
                return self.rejected(&source, topic, Some(payload), Reason::UnknownTopic, &error.to_string());
            }
            Ok(upward) => upward,
        };
        let undecodable =
            |error: Undecodable| self.rejected(&source, topic, Some(payload), Reason::Undecodable, &error.to_string());
        match upward {
            Upward::TimeSync => match time_sync_answer(payload, self.now_ms) {
                Ok(answer) => explanation(None, None, false, Some(&answer), None, None),
                Err(error) => undecodable(error),
            },
            Upward::Message(route) => match decode(&route, payload, self.now_ms) {
                Ok(message) => {
                    let record = self.encoder().device(&source, &route, &message, None);
                    if record.channel == Channel::Rejected {
                        let detail = "the subject would be too long";
                        return self.shown(&record, device, Some((Reason::TooLarge, detail)));
                    }
                    self.shown(&record, route.about(), None)
                }
                Err(error) => undecodable(error),
            },
        }
    }

    /// What becomes of a command given as JSON: an object with `topic`, `body` (for `DIRECT` `body_base64`), `closes`,
    /// `unsupported` and, for what is refused, `error` with `code` and `message`.
    pub fn command(&self, json: &[u8]) -> String {
        let mut out = Vec::new();
        let command = match Command::from_json(json) {
            Ok(command) => command,
            Err(error) => {
                let (unsupported, code, text) = match &error {
                    CommandError::Unreadable(text, _) | CommandError::Parameter(_, text) => {
                        (false, Code::ParameterError, text)
                    }
                    CommandError::Unsupported(_, text) => (true, Code::UnsupportedMessage, text),
                };
                out.extend_from_slice(b"{\"topic\":null,\"body\":null,\"closes\":false,\"unsupported\":");
                out.extend_from_slice(unsupported.to_string().as_bytes());
                out.extend_from_slice(b",\"error\":{\"code\":\"");
                out.extend_from_slice(code.as_str().as_bytes());
                out.extend_from_slice(b"\",\"message\":");
                write_string(&mut out, text);
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

    fn rejected(
        &self,
        source: &Source<'_>,
        topic: &str,
        payload: Option<&[u8]>,
        reason: Reason,
        detail: &str,
    ) -> String {
        let record = self.encoder().rejected(source, &Rejection { topic, payload, reason, detail }, None);
        self.shown(&record, source.device, Some((reason, detail)))
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
