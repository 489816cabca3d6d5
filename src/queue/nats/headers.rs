//! NATS headers of an envelope.

use std::borrow::Cow;

use async_nats::HeaderMap;
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

/// The headers of a structured envelope without a place in a trace, as [`write()`] writes them.
pub(super) const STRUCTURED: &[u8] = b"NATS/1.0\r\ncontent-type: application/cloudevents+json\r\n\r\n";

/// Writes the headers of a record behind what is there, with the version line before them and the empty line behind them.
pub(super) fn write(out: &mut Vec<u8>, record: &Record) {
    begin(out);
    envelope(out, &record.attributes);
    end(out, record.trace);
}

/// Writes the headers of an outcome, as [`write()`] does those of a record, with the service error where it is a failure.
pub(super) fn write_outcome(out: &mut Vec<u8>, outcome: &Outcome) {
    begin(out);
    envelope(out, &outcome.attributes);
    if let Some((code, text)) = &outcome.failure {
        service_error(out, *code, text);
    }
    end(out, outcome.trace);
}

/// Writes the headers of a failure whose envelope cannot be sent.
pub(super) fn write_bare_failure(out: &mut Vec<u8>, trace: Option<TraceContext>, code: Code, text: &str) {
    begin(out);
    service_error(out, code, text);
    end(out, trace);
}

fn begin(out: &mut Vec<u8>) {
    out.extend_from_slice(b"NATS/1.0");
}

/// The headers of an envelope. In binary mode: `ce-` and the attribute, as the CloudEvents bindings name them; the media type
/// of `data` is `content-type` and no `ce-` header.
fn envelope(out: &mut Vec<u8>, attributes: &[(&'static str, String)]) {
    if attributes.is_empty() {
        return line(out, &["content-type", ": ", CLOUDEVENTS_JSON]);
    }
    let media_type = attributes.iter().find(|(name, _)| *name == MEDIA_TYPE).map(|(_, value)| escape(value));
    line(out, &["content-type", ": ", media_type.as_deref().unwrap_or(JSON)]);
    for (name, value) in attributes.iter().filter(|(name, _)| *name != MEDIA_TYPE) {
        line(out, &["ce-", name, ": ", &escape(value)]);
    }
}

fn service_error(out: &mut Vec<u8>, code: Code, text: &str) {
    line(out, &["Nats-Service-Error-Code: ", code.as_str()]);
    line(out, &["Nats-Service-Error: ", &one_line(text)]);
}

fn end(out: &mut Vec<u8>, trace: Option<TraceContext>) {
    if let Some(trace) = trace {
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

/// The attributes that the headers of an envelope hold, by their names.
pub(super) fn attributes(headers: Option<&HeaderMap>) -> Vec<(String, String)> {
    let mut attributes = Vec::new();
    for (name, values) in headers.into_iter().flat_map(HeaderMap::iter) {
        let name: &str = name.as_ref();
        if let (Some(name), Some(value)) = (name.strip_prefix("ce-"), values.first()) {
            attributes.push((name.to_owned(), unescape(value.as_str())));
        }
    }
    attributes.sort_unstable();
    attributes
}

/// One header; the first of that name.
pub(super) fn text(headers: Option<&HeaderMap>, name: &str) -> Option<String> {
    Some(headers?.get(name)?.as_str().to_owned())
}

/// Code and text of a failed outcome.
pub(super) fn failure(headers: Option<&HeaderMap>) -> Option<(String, String)> {
    let code = text(headers, "Nats-Service-Error-Code")?;
    Some((code, text(headers, "Nats-Service-Error").unwrap_or_default()))
}

/// The headers of a command, those apart that no header can hold.
pub(super) fn of_command(headers: &[(&'static str, String)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(_, value)| !value.contains(['\r', '\n'])) {
        map.insert(*name, value.as_str());
    }
    map
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
    fn what_is_no_escape_stays() {
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
        let written = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            String::from_utf8(out).expect("headers are ASCII")
        };
        let trace = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let error = "Nats-Service-Error-Code: TIME_OUT\r\nNats-Service-Error: no  reply";
        assert_eq!(
            written(&|out| write_outcome(out, &failed)),
            format!("NATS/1.0\r\ncontent-type: {CLOUDEVENTS_JSON}\r\n{error}\r\n{trace}\r\n\r\n")
        );
        assert_eq!(
            written(&|out| write_bare_failure(out, failed.trace, Code::TimeOut, "no\r\nreply")),
            format!("NATS/1.0\r\n{error}\r\n{trace}\r\n\r\n")
        );
    }
}
