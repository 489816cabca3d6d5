//! NATS headers of an envelope.

use std::borrow::Cow;

use async_nats::{HeaderMap, HeaderName};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::protocol::downlink::{Code, Outcome};
use crate::protocol::trace::TraceContext;
use crate::protocol::uplink::Record;

/// Media type of a structured envelope.
pub(super) const CLOUDEVENTS_JSON: &str = "application/cloudevents+json";

/// Media type of `data` when an envelope in binary mode does not say.
const JSON: &str = "application/json";

/// The attribute that is the media type of `data`.
const MEDIA_TYPE: &str = "datacontenttype";

/// The header by which whoever reads a message continues its trace (W3C Trace Context), in either mode.
const TRACEPARENT: &str = "traceparent";

/// The headers of a structured envelope without a place in a trace, as [`write`] writes them.
pub(super) const STRUCTURED: &[u8] = b"NATS/1.0\r\ncontent-type: application/cloudevents+json\r\n\r\n";

/// Writes the headers of a record behind what is there, with the version line before them and the empty line behind them.
pub(super) fn write(out: &mut Vec<u8>, record: &Record) {
    out.extend_from_slice(b"NATS/1.0");
    if record.attributes.is_empty() {
        line(out, &["content-type", ": ", CLOUDEVENTS_JSON]);
    } else {
        let media_type = record.attributes.iter().find(|(name, _)| *name == MEDIA_TYPE).map(|(_, value)| escape(value));
        line(out, &["content-type", ": ", media_type.as_deref().unwrap_or(JSON)]);
        for (name, value) in record.attributes.iter().filter(|(name, _)| *name != MEDIA_TYPE) {
            line(out, &["ce-", name, ": ", &escape(value)]);
        }
    }
    if let Some(trace) = record.trace {
        line(out, &[TRACEPARENT, ": ", trace.to_text().as_str()]);
    }
    out.extend_from_slice(b"\r\n\r\n");
}

fn line(out: &mut Vec<u8>, parts: &[&str]) {
    out.extend_from_slice(b"\r\n");
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Headers of a structured envelope.
fn structured() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", CLOUDEVENTS_JSON);
    headers
}

/// Headers of an envelope in binary mode: `ce-` and the attribute, as the CloudEvents bindings name them; the media type
/// of `data` is `content-type` and no `ce-` header.
fn binary(attributes: &[(&'static str, String)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", JSON);
    for (name, value) in attributes {
        if *name == MEDIA_TYPE {
            headers.insert("content-type", escape(value).as_str());
        } else {
            headers.insert(format!("ce-{name}"), escape(value));
        }
    }
    headers
}

/// The same headers, and the place in the trace.
fn traced(mut headers: HeaderMap, trace: Option<TraceContext>) -> HeaderMap {
    if let Some(trace) = trace {
        headers.insert(HeaderName::from_static(TRACEPARENT), trace.to_text().as_str());
    }
    headers
}

/// Headers of an outcome, with the service error where it is a failure.
pub(super) fn outcome(outcome: &Outcome) -> HeaderMap {
    let headers = if outcome.attributes.is_empty() { structured() } else { binary(&outcome.attributes) };
    let mut headers = traced(headers, outcome.trace);
    if let Some((code, text)) = &outcome.failure {
        headers.insert("Nats-Service-Error-Code", code.as_str());
        headers.insert("Nats-Service-Error", one_line(text));
    }
    headers
}

/// Headers of a failure whose envelope cannot be sent.
pub(super) fn bare_failure(trace: Option<TraceContext>, code: Code, text: &str) -> HeaderMap {
    let mut headers = traced(HeaderMap::new(), trace);
    headers.insert("Nats-Service-Error-Code", code.as_str());
    headers.insert("Nats-Service-Error", one_line(text));
    headers
}

/// Percent-encodes what the HTTP binding, which this one follows, keeps out of header values: everything outside
/// printable ASCII, the space, the double quote and the percent sign.
fn escape(value: &str) -> String {
    const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');
    utf8_percent_encode(value, ENCODED).to_string()
}

/// The inverse of the escape; what is no escape stays.
pub(super) fn unescape(value: &str) -> String {
    percent_decode_str(value).decode_utf8().unwrap_or(Cow::Borrowed(value)).into_owned()
}

fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::protocol::uplink::Channel;

    #[test]
    fn binary_attributes_are_percent_encoded_headers() {
        let headers = binary(&[
            ("id", "01J".to_owned()),
            ("subject", "温 \"%".to_owned()),
            ("datacontenttype", "application/json".to_owned()),
        ]);
        assert_eq!(headers.get("ce-id").map(|v| v.as_str()), Some("01J"));
        assert_eq!(headers.get("ce-subject").map(|v| v.as_str()), Some("%E6%B8%A9%20%22%25"));
        assert_eq!(headers.get("content-type").map(|v| v.as_str()), Some("application/json"));
        assert_eq!(headers.get("ce-datacontenttype"), None);
        assert_eq!(unescape("%E6%B8%A9%20%22%25"), "温 \"%");
        assert_eq!(unescape("100%"), "100%");
    }

    #[test]
    fn a_record_has_the_headers_of_its_mode_and_of_its_trace() {
        let written = |attributes: &[(&'static str, &str)], trace: Option<TraceContext>| {
            let record = Record {
                channel: Channel::Device,
                address: Bytes::new(),
                payload: Bytes::new(),
                attributes: attributes.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
                recorded_ms: 0,
                trace,
            };
            let mut out = Vec::new();
            write(&mut out, &record);
            String::from_utf8(out).expect("headers are ASCII")
        };
        assert_eq!(written(&[], None).as_bytes(), STRUCTURED);
        let trace = TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assert_eq!(
            written(&[], trace),
            "NATS/1.0\r\ncontent-type: application/cloudevents+json\r\n\
             traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n"
        );
        assert_eq!(
            written(&[("id", "01J"), ("subject", "温 \r\n"), ("datacontenttype", "text/plain")], None),
            "NATS/1.0\r\ncontent-type: text/plain\r\nce-id: 01J\r\nce-subject: %E6%B8%A9%20%0D%0A\r\n\r\n"
        );
        assert_eq!(written(&[("id", "01J")], None), "NATS/1.0\r\ncontent-type: application/json\r\nce-id: 01J\r\n\r\n");
    }

    #[test]
    fn a_failure_carries_the_service_error_on_one_line() {
        let failed = Outcome {
            device: "device1".to_owned(),
            correlation_id: "1".to_owned(),
            payload: Bytes::new(),
            attributes: Vec::new(),
            trace: TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            failure: Some((Code::TimeOut, "no\r\nreply".to_owned())),
        };
        let headers = outcome(&failed);
        assert_eq!(headers.get("Nats-Service-Error-Code").map(|v| v.as_str()), Some("TIME_OUT"));
        assert_eq!(headers.get("Nats-Service-Error").map(|v| v.as_str()), Some("no  reply"));
        assert_eq!(headers.get("content-type").map(|v| v.as_str()), Some(CLOUDEVENTS_JSON));
        let trace = headers.get("traceparent").map(|v| v.as_str());
        assert_eq!(trace, Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
    }
}
