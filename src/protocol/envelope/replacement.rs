//! The rejected envelope that takes the place of a record which the queue will never store.

use std::borrow::Cow;

use super::{Encoder, Reason, Rejection, Source};
use crate::protocol::address::from_token;
use crate::protocol::json::{Kind, scan, unescape};
use crate::protocol::topic::{MessageKind, MessageType};
use crate::protocol::uplink::{Channel, Record, RecordRefusal};

/// Common start of the types of envelopes about devices.
const DEVICE_TYPE: &str = "org.jetlinks.device.";

/// A record in place of one that the queue refused.
#[derive(Debug)]
pub struct Replacement {
    /// The rejected envelope.
    pub record: Record,
    /// Type of the message that was refused.
    pub kind: MessageKind,
    /// Reason of the refusal, as the envelope says.
    pub reason: Reason,
    /// Topic of the message, without aliases.
    pub topic: String,
}

/// The parts of a stored envelope that name its message.
#[derive(Default)]
struct Parts<'a> {
    source: Cow<'a, str>,
    message_type: Cow<'a, str>,
    subject: Cow<'a, str>,
    session: Option<Cow<'a, str>>,
    data: &'a [u8],
}

impl Encoder {
    /// The rejected envelope for a record that the queue will never store; `None` for one that is itself a rejected
    /// envelope or about no device: nothing can take its place.
    ///
    /// The topic and the payload that the device sent are gone by then. The topic is made from the record's envelope, so it
    /// is the one without aliases, and with [`RecordRefusal::Rule`] the payload is the envelope's `data`.
    pub fn replacement(&mut self, record: &Record, refusal: &RecordRefusal) -> Option<Replacement> {
        if record.channel != Channel::Device {
            return None;
        }
        let parts = parts(record);
        let message_type = MessageType::from_dotted(parts.message_type.strip_prefix(DEVICE_TYPE)?)?;
        let segments = parts.source.strip_prefix('/')?.split('/').map(from_token).collect::<Option<Vec<_>>>()?;
        let topic = topic(&segments, message_type, &parts.subject);
        let [product, device, ..] = &segments[..] else { return None };
        let source = Source { product, device, session: parts.session.as_deref(), about_product: None };
        let (reason, payload, detail) = match refusal {
            RecordRefusal::TooLarge(cause) => (Reason::TooLarge, None, cause),
            RecordRefusal::Rule(cause) => (Reason::Refused, Some(parts.data), cause),
        };
        let detail = format!("the queue does not take the message: {detail}");
        let rejection = Rejection { topic: &topic, payload, reason, detail: &detail };
        let record = self.rejected(&source, &rejection, record.trace);
        Some(Replacement { record, kind: MessageKind::Type(message_type), reason, topic })
    }
}

fn topic(segments: &[Cow<'_, str>], message_type: MessageType, event: &str) -> String {
    let mut topic = format!("/{}/{}", segments.join("/"), message_type.suffix());
    if message_type == MessageType::Event {
        topic.push('/');
        topic.push_str(event);
    }
    topic
}

fn parts(record: &Record) -> Parts<'_> {
    let mut parts = Parts::default();
    if record.attributes.is_empty() {
        // An envelope of the encoder is well-formed JSON without escapes in its keys.
        let _well_formed = scan(&record.payload, |member| match (member.key, member.kind) {
            ("source", Kind::Text) => parts.source = text(member.value),
            ("type", Kind::Text) => parts.message_type = text(member.value),
            ("subject", Kind::Text) => parts.subject = text(member.value),
            ("sessionid", Kind::Text) => parts.session = Some(text(member.value)),
            ("data", _) => parts.data = member.value.as_bytes(),
            _ => {}
        });
        return parts;
    }
    parts.data = &record.payload;
    for (name, value) in &record.attributes {
        match *name {
            "source" => parts.source = Cow::Borrowed(value),
            "type" => parts.message_type = Cow::Borrowed(value),
            "subject" => parts.subject = Cow::Borrowed(value),
            "sessionid" => parts.session = Some(Cow::Borrowed(value)),
            _ => {}
        }
    }
    parts
}

/// A JSON text without its quotes and escapes.
fn text(value: &str) -> Cow<'_, str> {
    let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    unescape(inner.unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::envelope::Mode;
    use crate::protocol::message;
    use crate::protocol::topic::{Upward, parse_up};
    use crate::protocol::uplink::Addressing;

    fn replaced(mode: Mode, topic: &str, payload: &str, refusal: &RecordRefusal) -> serde_json::Value {
        let mut encoder = Encoder::new(mode, Addressing::Subject("jetlinks".to_owned()), "replica1".to_owned(), 7);
        let source = Source { product: "product 1", device: "device1", session: Some("session1"), about_product: None };
        let Ok(Upward::Message(route)) = parse_up(topic, source.product, source.device) else { panic!("{topic}") };
        let message = message::decode(&route, payload.as_bytes(), 1).expect("decodable");
        let record = encoder.device(&source, &route, &message, None);
        let replacement = encoder.replacement(&record, refusal).expect("about a device");
        assert_eq!(replacement.kind, MessageKind::Type(route.message_type));
        assert_eq!(replacement.record.channel, Channel::Rejected);
        assert!(encoder.replacement(&replacement.record, refusal).is_none(), "a replacement was replaced");
        let value: serde_json::Value = serde_json::from_slice(&replacement.record.payload).expect("JSON");
        match mode {
            Mode::Structured => {
                let named = ["productid", "deviceid", "sessionid"].map(|name| value[name].clone());
                assert_eq!(named, ["product 1", "device1", "session1"].map(serde_json::Value::from));
                value["data"].clone()
            }
            Mode::Binary => value,
        }
    }

    #[test]
    fn a_refused_record_is_replaced_by_a_rejected_envelope_that_names_topic_and_cause() {
        let refusal = RecordRefusal::TooLarge("maximum payload exceeded".to_owned());
        for (topic, canonical) in [
            ("/product 1/device1/properties/report/", "/product 1/device1/properties/report"),
            ("product 1/device1/child-reply/chi.d1/connected", "/product 1/device1/child/chi.d1/online"),
            ("/product 1/device1/event/a \"b\"", "/product 1/device1/event/a \"b\""),
        ] {
            for mode in [Mode::Structured, Mode::Binary] {
                let data = replaced(mode, topic, r#"{"properties":{}}"#, &refusal);
                let detail = "the queue does not take the message: maximum payload exceeded";
                let expected = serde_json::json!({"topic": canonical, "reason": "too_large", "detail": detail});
                assert_eq!(data, expected, "{topic}");
            }
        }
    }

    #[test]
    fn what_a_rule_refused_is_kept_in_the_rejected_envelope() {
        let data = replaced(
            Mode::Structured,
            "/product 1/device1/log",
            r#"{"log":"x"}"#,
            &RecordRefusal::Rule("no".to_owned()),
        );
        assert_eq!((&data["reason"], &data["topic"]), (&"refused".into(), &"/product 1/device1/log".into()));
        let mut expected = bytes::BytesMut::new();
        let body = br#"{"messageType":"LOG","deviceId":"device1","timestamp":1,"log":"x"}"#;
        message::write_base64(&mut expected, body);
        assert_eq!(data["payload_base64"].as_str().map(str::as_bytes), Some(&expected[..]));
    }
}
