//! Acknowledgements of the stream, told from everything else that arrives on reply subjects.
//!
//! Whoever takes a record may answer it: another stream that stores the same subjects (behind a leaf node, in another
//! domain), a subscriber with an answer for everything. Only the stream of the configuration, in its domain, decides
//! about a record; what others say has no effect.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;

use crate::protocol::uplink::RecordRefusal;

/// The word of the stream about a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Acknowledgement {
    /// The stream has the record.
    Stored,
    /// It will never have this record; others it takes.
    Unstorable(RecordRefusal),
    /// The stream does not take records at present.
    Refused(String),
}

/// Somebody who answers records and is not the stream of the configuration.
#[derive(Debug, PartialEq, Eq)]
pub enum Answerer {
    /// A stream of this name, in this domain if its server has one.
    Stream(String, Option<String>),
    /// A stream with the same name, which refuses what the stream itself stores.
    Namesake,
    /// A subscriber, as it seems: no answer of JetStream.
    Subscriber,
}

impl fmt::Display for Answerer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answerer::Stream(name, Some(domain)) => write!(f, "stream {name} of domain {domain}"),
            Answerer::Stream(name, None) => write!(f, "stream {name} of no domain"),
            Answerer::Namesake => f.write_str("a stream of the same name, in another domain"),
            Answerer::Subscriber => f.write_str("a subscriber"),
        }
    }
}

/// Status by which a server says that nobody takes a subject.
const NO_RESPONDERS: u16 = 503;

/// `err_code` of a message above the stream's `max_msg_size`.
const MESSAGE_TOO_LARGE: u64 = 10_054;

/// `err_code` of headers above what a stream can hold.
const HEADER_TOO_LARGE: u64 = 10_097;

/// `err_code` of a message that could not be stored, for whatever reason; the text says which.
const STORE_FAILED: u64 = 10_077;

/// Texts of nats-server for [`STORE_FAILED`] that are about one record alone: its subject is full, in a stream with
/// `discard_new_per_subject`; it is larger than a stream can hold at all.
const SUBJECT_FULL: &str = "maximum messages per subject exceeded";
const TOO_LARGE_TO_STORE: &str = "message too large";

/// An answer of JetStream to a publish: `JSPubAckResponse` of nats-server.
#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow)]
    error: Option<ReplyError<'a>>,
    #[serde(borrow)]
    stream: Option<Cow<'a, str>>,
    #[serde(borrow)]
    domain: Option<Cow<'a, str>>,
    seq: Option<u64>,
}

#[derive(Deserialize)]
struct ReplyError<'a> {
    err_code: Option<u64>,
    #[serde(borrow)]
    description: Option<Cow<'a, str>>,
}

/// The stream whose acknowledgements count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamIdentity {
    name: String,
    domain: Option<String>,
    /// How the server begins a positive acknowledgement of this stream, up to the sequence number.
    stored: Vec<u8>,
}

impl StreamIdentity {
    /// The stream of that name, in the domain that `STREAM.INFO` names.
    pub fn new(name: &str, domain: Option<&str>) -> Self {
        let stored = match domain {
            Some(domain) => format!(r#"{{"stream":"{name}","domain":"{domain}","seq":"#),
            None => format!(r#"{{"stream":"{name}","seq":"#),
        };
        Self { name: name.to_owned(), domain: domain.map(str::to_owned), stored: stored.into_bytes() }
    }

    /// Reads what came on a reply subject, with the status of its headers if they have one. The usual form of a positive
    /// acknowledgement needs no parser.
    ///
    /// # Errors
    /// [`Answerer`] where it was not this stream that answered.
    pub fn read(&self, status: Option<u16>, payload: &[u8]) -> Result<Acknowledgement, Answerer> {
        match status {
            None => self.read_payload(payload),
            // The server itself, where nobody takes the subject; there is nobody else to answer then.
            Some(NO_RESPONDERS) if payload.is_empty() => {
                Ok(Acknowledgement::Refused("no stream takes the subject".to_owned()))
            }
            Some(_) => Err(Answerer::Subscriber),
        }
    }

    /// Reads the payload of an answer without a status.
    ///
    /// # Errors
    /// As [`StreamIdentity::read`].
    pub fn read_payload(&self, payload: &[u8]) -> Result<Acknowledgement, Answerer> {
        if payload.strip_prefix(self.stored.as_slice()).is_some_and(is_number_and_end) {
            return Ok(Acknowledgement::Stored);
        }
        if !payload.trim_ascii_start().starts_with(b"{") {
            // serde would take a list for the members in their order.
            return Err(Answerer::Subscriber);
        }
        let Ok(Reply { error, stream: Some(stream), domain, seq }) = serde_json::from_slice(payload) else {
            return Err(Answerer::Subscriber);
        };
        // The server names the stream in errors too, but its domain in positive acknowledgements alone.
        let is_domain = domain.as_deref() == self.domain.as_deref() || (error.is_some() && domain.is_none());
        if stream != self.name.as_str() || !is_domain {
            let domain = domain.map(Cow::into_owned);
            return Err(Answerer::Stream(stream.into_owned(), domain));
        }
        match (error, seq) {
            (None, Some(1..)) => Ok(Acknowledgement::Stored),
            (None, _) => Err(Answerer::Subscriber),
            (Some(error), _) => {
                let description = error.description.map(Cow::into_owned).unwrap_or_default();
                Ok(match (error.err_code, description.as_str()) {
                    (Some(MESSAGE_TOO_LARGE | HEADER_TOO_LARGE), _) | (Some(STORE_FAILED), TOO_LARGE_TO_STORE) => {
                        Acknowledgement::Unstorable(RecordRefusal::TooLarge(description))
                    }
                    (Some(STORE_FAILED), SUBJECT_FULL) => Acknowledgement::Unstorable(RecordRefusal::Rule(description)),
                    _ => Acknowledgement::Refused(description),
                })
            }
        }
    }
}

/// A sequence number, which begins at 1, and the end of the object.
fn is_number_and_end(text: &[u8]) -> bool {
    matches!(text, [b'1'..=b'9', digits @ .., b'}'] if digits.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(identity: &StreamIdentity, payload: &str) -> Result<Acknowledgement, Answerer> {
        identity.read(None, payload.as_bytes())
    }

    fn foreign(name: &str, domain: Option<&str>) -> Result<Acknowledgement, Answerer> {
        Err(Answerer::Stream(name.to_owned(), domain.map(str::to_owned)))
    }

    #[test]
    fn only_the_stream_of_the_configuration_in_its_domain_acknowledges() {
        let (bare, hub) = (StreamIdentity::new("S", None), StreamIdentity::new("S", Some("hub")));
        for (identity, payload, expected) in [
            (&bare, r#"{"stream":"S","seq":1}"#, Ok(Acknowledgement::Stored)),
            (&bare, r#"{"seq":1,"stream":"S"}"#, Ok(Acknowledgement::Stored)),
            (&bare, r#"{"stream":"S","seq":7,"duplicate": true}"#, Ok(Acknowledgement::Stored)),
            (&bare, r#"{"stream":"S2","seq":1}"#, foreign("S2", None)),
            (&bare, r#"{"stream":"S","domain":"hub","seq":1}"#, foreign("S", Some("hub"))),
            (&bare, r#"{"stream":"S","seq":1,"domain":"hub"}"#, foreign("S", Some("hub"))),
            (&hub, r#"{"stream":"S","domain":"hub","seq":1}"#, Ok(Acknowledgement::Stored)),
            (&hub, r#"{"stream":"S","domain":"hub2","seq":1}"#, foreign("S", Some("hub2"))),
            (&hub, r#"{"stream":"S","domain":"leaf","seq":1}"#, foreign("S", Some("leaf"))),
            (&hub, r#"{"stream":"S","seq":1}"#, foreign("S", None)),
            (&hub, r#"{"stream":"EDGE","domain":"hub","seq":1}"#, foreign("EDGE", Some("hub"))),
        ] {
            assert_eq!(read(identity, payload), expected, "{payload}");
        }
    }

    #[test]
    fn a_refusal_of_the_stream_counts_and_one_of_another_stream_does_not() {
        let hub = StreamIdentity::new("S", Some("hub"));
        let error = |stream: &str, code: u32, text: &str| {
            format!(
                r#"{{"error":{{"code":503,"err_code":{code},"description":"{text}"}},"stream":"{stream}","seq":0}}"#
            )
        };
        let full = "maximum messages exceeded";
        assert_eq!(read(&hub, &error("S", 10_077, full)), Ok(Acknowledgement::Refused(full.to_owned())));
        let large = |text: &str| RecordRefusal::TooLarge(text.to_owned());
        for (code, text, refusal) in [
            (10_054, "message size exceeds maximum allowed", large("message size exceeds maximum allowed")),
            (10_097, "header size exceeds", large("header size exceeds")),
            (10_077, TOO_LARGE_TO_STORE, large(TOO_LARGE_TO_STORE)),
            (10_077, SUBJECT_FULL, RecordRefusal::Rule(SUBJECT_FULL.to_owned())),
        ] {
            assert_eq!(read(&hub, &error("S", code, text)), Ok(Acknowledgement::Unstorable(refusal)), "{text}");
        }
        for (code, text) in [(10_077, "maximum bytes exceeded"), (10_109, "sealed"), (10_167, "too many requests")] {
            assert_eq!(read(&hub, &error("S", code, text)), Ok(Acknowledgement::Refused(text.to_owned())));
        }
        assert_eq!(read(&hub, &error("EDGE", 10_077, full)), foreign("EDGE", None));
        assert_eq!(read(&hub, &error("EDGE", 10_054, "too large")), foreign("EDGE", None));
        assert!(matches!(hub.read(Some(NO_RESPONDERS), b""), Ok(Acknowledgement::Refused(_))));
    }

    #[test]
    fn what_is_no_answer_of_jetstream_says_nothing_about_a_record() {
        let identity = StreamIdentity::new("S", None);
        for payload in [
            "",
            "{}",
            "ok",
            "null",
            r#"[null,"S",null,17]"#,
            r#"{"stream":"S"}"#,
            r#"{"stream":"S","seq":0}"#,
            r#"{"stream":"S","seq":"#,
            r#"{"stream":"S","seq":}"#,
            r#"{"stream":"S","seq":1x}"#,
            r#"{"stream":"S","seq":1"#,
            r#"{"stream":"S","seq":1}}"#,
            r#"{"error":{"err_code":10077,"description":"maximum messages exceeded"}}"#,
            r#"{"error":"no","stream":"S"}"#,
        ] {
            assert_eq!(read(&identity, payload), Err(Answerer::Subscriber), "{payload}");
        }
        for status in [408, 200] {
            assert_eq!(identity.read(Some(status), b""), Err(Answerer::Subscriber), "{status}");
        }
        assert_eq!(identity.read(Some(NO_RESPONDERS), b"no"), Err(Answerer::Subscriber));
    }
}
