//! Spans of a session.

use super::Ending;
use super::fake::Rig;
use crate::codec::mqtt::{self, Packet, PacketId, Qos, encode};
use crate::protocol::command::Command;
use crate::protocol::downlink::Ticket;
use crate::protocol::trace::{Operation, TraceContext};
use crate::protocol::uplink::Channel;
use crate::session::fake::{field, parse};

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn command(rig: &mut Rig, traceparent: &str) {
    let json = format!(
        r#"{{"messageType":"READ_PROPERTY","productId":"product1","deviceId":"device1","messageId":"m1",
            "headers":{{"traceparent":"{traceparent}"}}}}"#
    );
    let command = Command::from_json(json.as_bytes());
    rig.act(|session, ctx| session.command(Some(Ticket(1)), command, ctx));
}

fn expire(rig: &mut Rig) {
    rig.world.now.us += 10_000_000;
    rig.act(|session, ctx| session.expire(ctx));
}

fn context(envelope: &[u8]) -> TraceContext {
    let envelope = parse(&envelope.to_vec().into());
    let text = field(&envelope, "traceparent");
    TraceContext::parse(&text).unwrap_or_else(|| panic!("{envelope}"))
}

#[test]
fn a_message_is_a_span_from_its_receipt_to_that_of_the_queue() {
    let (mut rig, spans) = Rig::traced(1.0);
    rig.report(1, Qos::AtLeastOnce);
    rig.world.now.us += 1_500;
    assert!(spans.lock().unwrap().is_empty(), "the span ended before the queue had the message");
    rig.receipt(1, true);
    let spans = spans.lock().unwrap();
    let record = &rig.world.uplink.published[1].1;
    assert_eq!(spans.len(), 1);
    assert_eq!((Some(spans[0].context), spans[0].parent), (record.trace, None));
    assert_eq!(context(&record.payload), spans[0].context);
    assert_eq!(spans[0].operation, Operation::Uplink(Channel::Device));
    assert_eq!((spans[0].message, spans[0].device.as_str()), ("properties.report", "device1"));
    assert_eq!(spans[0].message_id, field(&parse(&record.payload), "id"));
    assert_eq!((spans[0].start_us, spans[0].duration_us), (1_700_000_000_000_000, 1_500));
    assert_eq!(spans[0].failure, None);
}

#[test]
fn a_message_that_is_not_sampled_has_its_place_and_no_span() {
    let (mut rig, spans) = Rig::traced(0.0);
    rig.report(1, Qos::AtLeastOnce);
    rig.receipt(1, true);
    let record = &rig.world.uplink.published[1].1;
    assert!(!context(&record.payload).sampled);
    assert_eq!(record.trace, None, "no header for what nobody follows");
    assert!(spans.lock().unwrap().is_empty());
}

#[test]
fn a_message_that_is_given_up_is_a_span_with_an_error() {
    let (mut rig, spans) = Rig::traced(1.0);
    rig.report(1, Qos::AtLeastOnce);
    rig.pass(10);
    assert_eq!(rig.ending(), Some(Ending::NotAcknowledged));
    let spans = spans.lock().unwrap();
    assert_eq!((spans[0].failure, spans[0].duration_us), (Some("ack_timeout"), 10_000_000));
}

#[test]
fn what_is_rejected_is_traced_like_what_is_understood_and_presence_is_not() {
    let (mut rig, spans) = Rig::traced(1.0);
    rig.publish("nosuch", "{}", Qos::AtLeastOnce, 1);
    rig.receipt(1, true);
    rig.act(|session, ctx| session.end(Ending::Disconnected, ctx));
    rig.store_all();
    let spans = spans.lock().unwrap();
    let spans: Vec<_> = spans.iter().map(|span| (span.operation, span.message)).collect();
    assert_eq!(spans, [(Operation::Uplink(Channel::Rejected), "rejected")]);
    let offline = &rig.world.uplink.published[2].1;
    assert_eq!((offline.trace, field(&parse(&offline.payload), "traceparent")), (None, String::new()));
}

#[test]
fn a_command_and_its_reply_continue_the_callers_trace() {
    // The share counts for traces that begin here alone.
    let (mut rig, spans) = Rig::traced(0.0);
    command(&mut rig, CALLER);
    rig.world.now.us += 2_000;
    rig.publish("properties/read/reply", r#"{"messageId":"m1","properties":{}}"#, Qos::AtLeastOnce, 1);
    rig.receipt(1, true);
    let caller = TraceContext::parse(CALLER).expect("well-formed");
    let spans = spans.lock().unwrap();
    let [command, reply] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(command.operation, Operation::Command);
    assert_eq!((command.context.trace_id, command.parent), (caller.trace_id, Some(caller.span_id)));
    assert_eq!((command.message, command.duration_us, command.failure), ("properties.read", 2_000, None));
    assert_eq!(command.message_id, "m1");
    assert_eq!((reply.context.trace_id, reply.parent), (caller.trace_id, Some(command.context.span_id)));
    let outcome = &rig.world.downlink.outcomes[0].1;
    assert_eq!((context(&outcome.payload), outcome.trace), (command.context, Some(command.context)));
    assert_eq!(context(&rig.world.uplink.published[1].1.payload), reply.context);
}

#[test]
fn the_callers_decision_not_to_sample_counts() {
    let (mut rig, spans) = Rig::traced(1.0);
    command(&mut rig, &format!("{}00", &CALLER[..53]));
    expire(&mut rig);
    let outcome = context(&rig.world.downlink.outcomes[0].1.payload);
    assert_eq!(Some(outcome.trace_id), TraceContext::parse(CALLER).map(|caller| caller.trace_id));
    assert!(!outcome.sampled && spans.lock().unwrap().is_empty());
}

#[test]
fn a_command_that_fails_is_a_span_with_its_code() {
    let (mut rig, spans) = Rig::traced(1.0);
    command(&mut rig, "malformed");
    command(&mut rig, CALLER);
    expire(&mut rig);
    let wrong = Command::from_subject("product1.device1.nosuch", b"{}");
    rig.act(|session, ctx| session.command(Some(Ticket(3)), wrong, ctx));
    let spans = spans.lock().unwrap();
    let failures: Vec<_> = spans.iter().map(|span| (span.message, span.failure, span.parent.is_some())).collect();
    let expected = [
        // The message id is in use.
        ("properties.read", Some("PARAMETER_ERROR"), true),
        ("properties.read", Some("TIME_OUT"), false),
        ("unknown", Some("UNSUPPORTED_MESSAGE"), false),
    ];
    assert_eq!(failures, expected);
    let outcomes = &rig.world.downlink.outcomes;
    for ((_, outcome), span) in outcomes.iter().zip(spans.iter()) {
        assert_eq!((outcome.trace, context(&outcome.payload)), (Some(span.context), span.context));
    }
    assert_eq!(outcomes.len(), 3);
}

#[test]
fn a_command_whose_session_ends_or_whose_puback_comes_ends_its_span_too() {
    for (end, failure) in [(true, Some("CONNECTION_LOST")), (false, None)] {
        let (mut rig, spans) = Rig::traced(1.0);
        if end {
            command(&mut rig, CALLER);
            rig.act(|session, ctx| session.end(Ending::ConnectionLost, ctx));
        } else {
            let mut bytes = Vec::new();
            encode::subscribe(&mut bytes, PacketId::MIN, &[("/product1/device1/#", Qos::AtLeastOnce)]);
            let packet = mqtt::decode(mqtt::Version::V311, bytes[0], &bytes[2..]).expect("well formed");
            rig.act(|session, ctx| session.packet(packet, ctx));
            let json = br#"{"headers":{"async":true}}"#;
            let wanted = Command::from_subject("product1.device1.properties.read", json);
            rig.act(|session, ctx| session.command(Some(Ticket(1)), wanted, ctx));
            assert!(spans.lock().unwrap().is_empty());
            rig.act(|session, ctx| session.packet(Packet::Puback(PacketId::MIN), ctx));
        }
        let spans = spans.lock().unwrap();
        assert_eq!(spans.iter().map(|span| span.failure).collect::<Vec<_>>(), [failure]);
    }
}
