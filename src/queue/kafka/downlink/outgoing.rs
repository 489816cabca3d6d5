//! Outcomes as Kafka stores them.

use bytes::Bytes;
use rdkafka::message::{Header, OwnedHeaders};

use crate::protocol::command::CommandIdentity;
use crate::protocol::downlink::Outcome;
use crate::protocol::trace::TraceContext;
use crate::queue::kafka::headers;
use crate::replica::ForeignOutcome;

/// One outcome, kept until Kafka has acknowledged it.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) destination: Destination,
    /// Id of the device; `None` when what could not be read had no key.
    pub(super) key: Option<Bytes>,
    pub(super) payload: Bytes,
    pub(super) headers: OwnedHeaders,
    /// Whether it stands in for an outcome that Kafka does not take.
    pub(super) is_substitute: bool,
}

/// Which topic takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    /// The topic of outcomes.
    Reply,
    /// The topic of what could not be understood.
    Rejected,
}

impl Outgoing {
    /// Bytes that are kept until Kafka has acknowledged it, without its headers.
    pub(super) fn held_bytes(&self) -> usize {
        self.payload.len() + self.key.as_ref().map_or(0, Bytes::len)
    }

    /// An outcome of this replica.
    pub(super) fn reply(outcome: Outcome) -> Self {
        let headers = correlated(headers::of(&outcome.attributes), &outcome.correlation_id);
        let headers = headers::traced(headers, outcome.trace);
        let key = Some(outcome.device.into());
        Self { destination: Destination::Reply, key, payload: outcome.payload, headers, is_substitute: false }
    }

    /// The outcome of a record that is no command; it has the record's key and its caller's header.
    pub(super) fn rejected(outcome: Outcome, key: Option<Bytes>) -> Self {
        let headers = correlated(headers::of(&outcome.attributes), &outcome.correlation_id);
        let headers = headers::traced(headers, outcome.trace);
        Self { destination: Destination::Rejected, key, payload: outcome.payload, headers, is_substitute: false }
    }

    /// The outcome that another replica gave, in the mode in which that one writes.
    pub(super) fn handed_over(outcome: ForeignOutcome, command: &CommandIdentity) -> Self {
        let ForeignOutcome { payload, content_type, traceparent, mut attributes, .. } = outcome;
        if !attributes.is_empty() {
            attributes.extend(content_type.map(|content_type| ("datacontenttype".to_owned(), content_type)));
        }
        let headers = correlated(headers::of(&attributes), command.correlation());
        let trace = traceparent.as_deref().and_then(TraceContext::parse);
        let headers = headers::traced(headers, trace);
        let key = Some(Bytes::copy_from_slice(command.about().as_bytes()));
        Self { destination: Destination::Reply, key, payload, headers, is_substitute: false }
    }
}

fn correlated(headers: OwnedHeaders, correlation_id: &str) -> OwnedHeaders {
    if correlation_id.is_empty() {
        return headers;
    }
    headers.insert(Header { key: "correlation-id", value: Some(correlation_id) })
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers;

    use super::*;

    fn texts(outgoing: &Outgoing) -> Vec<(String, String)> {
        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        outgoing.headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect()
    }

    fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }

    fn identity() -> CommandIdentity {
        CommandIdentity {
            product: "product1".to_owned(),
            device: "gw1".to_owned(),
            children: vec!["child1".to_owned()],
            message_type: None,
            message_id: Some("7".to_owned()),
            correlation_id: None,
            about_product: None,
            trace: None,
        }
    }

    #[test]
    fn a_handed_over_outcome_keeps_the_mode_of_the_replica_that_gave_it() {
        let structured = ForeignOutcome {
            payload: Bytes::from_static(b"{}"),
            content_type: Some("application/cloudevents+json".to_owned()),
            ..ForeignOutcome::default()
        };
        let outgoing = Outgoing::handed_over(structured, &identity());
        assert_eq!(outgoing.key.as_deref(), Some(&b"child1"[..]));
        let expected = [("content-type", "application/cloudevents+json"), ("correlation-id", "7")];
        assert_eq!(texts(&outgoing), pairs(expected));
        let binary = ForeignOutcome {
            content_type: Some("application/json".to_owned()),
            attributes: pairs([("id", "01J"), ("source", "/product1/gw1")]),
            ..ForeignOutcome::default()
        };
        let expected = [
            ("content-type", "application/json"),
            ("ce_id", "01J"),
            ("ce_source", "/product1/gw1"),
            ("correlation-id", "7"),
        ];
        assert_eq!(texts(&Outgoing::handed_over(binary, &identity())), pairs(expected));
    }
}
