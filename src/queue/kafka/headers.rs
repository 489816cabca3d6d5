//! Kafka headers of an envelope.

use rdkafka::message::{Header, OwnedHeaders};

use crate::protocol::trace::TraceContext;

/// Media type of a structured envelope.
const CLOUDEVENTS_JSON: &str = "application/cloudevents+json";

/// Media type of `data` when an envelope in binary mode does not say.
const JSON: &str = "application/json";

/// The attribute that is `content-type` in binary mode.
const MEDIA_TYPE: &str = "datacontenttype";

/// Headers of an envelope: structured ones have no attributes. In binary mode each attribute is `ce_` and its name, its
/// value as it is; the media type of `data` is `content-type` and no `ce_` header (CloudEvents Kafka binding, 3.2).
pub(super) fn of<N: AsRef<str>>(attributes: &[(N, String)]) -> OwnedHeaders {
    let headers = OwnedHeaders::new_with_capacity(attributes.len() + 1);
    if attributes.is_empty() {
        return headers.insert(Header { key: "content-type", value: Some(CLOUDEVENTS_JSON) });
    }
    let media_type = attributes.iter().find(|(name, _)| name.as_ref() == MEDIA_TYPE).map_or(JSON, |(_, value)| value);
    let mut headers = headers.insert(Header { key: "content-type", value: Some(media_type) });
    for (name, value) in attributes.iter().filter(|(name, _)| name.as_ref() != MEDIA_TYPE) {
        headers = headers.insert(Header { key: &format!("ce_{}", name.as_ref()), value: Some(value) });
    }
    headers
}

/// The same headers, and the one by which whoever reads the record continues its trace (W3C Trace Context), in either
/// mode.
pub(super) fn traced(headers: OwnedHeaders, trace: Option<TraceContext>) -> OwnedHeaders {
    match trace {
        Some(trace) => headers.insert(Header { key: "traceparent", value: Some(trace.to_text().as_bytes()) }),
        None => headers,
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers;

    use super::*;

    fn texts(headers: &OwnedHeaders) -> Vec<(String, String)> {
        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect()
    }

    #[test]
    fn an_attribute_is_a_header_and_its_value_stays_as_it_is() {
        let structured = of::<&str>(&[]);
        assert_eq!(texts(&structured), [("content-type".to_owned(), CLOUDEVENTS_JSON.to_owned())]);
        let binary = of(&[("subject", "温 度".to_owned()), ("datacontenttype", "application/json".to_owned())]);
        let expected = [("content-type", "application/json"), ("ce_subject", "温 度")];
        assert_eq!(texts(&binary), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
}
