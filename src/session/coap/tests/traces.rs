//! Spans of an endpoint.

use super::super::fake::{Rig, post, report};
use crate::protocol::trace::{Operation, TraceContext, fake};
use crate::protocol::uplink::Channel;

fn traced(share: f64) -> (Rig, fake::Ended) {
    let mut rig = Rig::new();
    let (tracer, ended) = fake::tracer(share);
    rig.world.encoder.tracer = tracer;
    (rig, ended)
}

#[test]
fn a_request_is_a_span_from_its_arrival_through_the_registry_to_the_receipt_of_the_queue() {
    let (mut rig, ended) = traced(1.0);
    rig.registry_waits = true;
    assert!(rig.feed(&report(1)).is_empty());
    let arrived_us = rig.world.now.unix_ms * 1000;
    rig.world.now.us += 300_000;
    rig.world.now.unix_ms += 300;
    rig.look_up();
    rig.world.now.us += 200_000;
    assert!(ended.lock().unwrap().is_empty(), "the span ended before the queue had the message");
    rig.receipt(0, true);
    let spans = ended.lock().unwrap();
    let record = &rig.world.uplink.published[0].1;
    assert_eq!((spans.len(), Some(spans[0].context)), (1, record.trace));
    assert_eq!((spans[0].start_us, spans[0].duration_us, spans[0].failure), (arrived_us, 500_000, None));
    assert_eq!((spans[0].message, spans[0].device.as_str()), ("properties.report", "device1"));
    let envelope = &rig.envelopes()[0];
    assert_eq!(envelope["traceparent"].as_str().and_then(TraceContext::parse), record.trace);
    assert_eq!(envelope["id"].as_str(), Some(spans[0].message_id.as_str()));
}

#[test]
fn a_request_that_the_queue_does_not_take_is_a_span_with_an_error() {
    let (mut rig, ended) = traced(1.0);
    rig.feed(&report(1));
    rig.pass_ms(1_000);
    rig.pass_ms(9_000);
    rig.world.uplink.refuses = true;
    rig.feed(&report(2));
    let spans = ended.lock().unwrap();
    let failures: Vec<_> = spans.iter().map(|span| (span.failure, span.duration_us)).collect();
    assert_eq!(failures, [(Some("ack_timeout"), 10_000_000), (Some("queue_away"), 0)]);
}

#[test]
fn what_is_rejected_has_its_place_and_what_is_refused_has_none() {
    let (mut rig, ended) = traced(1.0);
    rig.feed(&post(1, "/product1/device1/properties/report").payload(b"not encrypted").encode());
    assert!(rig.world.uplink.published.is_empty());
    let body = crate::protocol::cipher::encrypt(b"testtesttesttest", br#"{"properties":1}"#);
    rig.feed(&post(2, "/product1/device1/properties/report").payload(&body).encode());
    rig.receipt(0, true);
    let spans = ended.lock().unwrap();
    let spans: Vec<_> = spans.iter().map(|span| (span.operation, span.message)).collect();
    assert_eq!(spans, [(Operation::Uplink(Channel::Rejected), "rejected")]);
}
