//! The place in a trace, in envelopes of both modes and in the outcomes of commands.

use jetlinks_bridge::protocol::command::{Command, CommandError};
use jetlinks_bridge::protocol::downlink::Code;
use jetlinks_bridge::protocol::envelope::{Mode, Reason, Rejection};
use jetlinks_bridge::protocol::message::decode;
use jetlinks_bridge::protocol::topic::{Upward, parse_up};
use jetlinks_bridge::protocol::trace::TraceContext;
use serde_json::Value;

use crate::support::{NOW_MS, by_subject, parsed, source};

const UPLINK: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const COMMAND: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-00";

fn attribute(attributes: &[(&'static str, String)]) -> Option<String> {
    attributes.iter().find(|(name, _)| *name == "traceparent").map(|(_, value)| value.clone())
}

#[test]
fn a_reply_has_its_own_place_and_the_outcome_that_of_the_command() {
    let Ok(Upward::Message(route)) = parse_up("/p/d/properties/read/reply", "p", "d") else { panic!("a message") };
    let message = decode(&route, br#"{"messageId":"1","properties":{}}"#, NOW_MS).expect("a message of its type");
    let (uplink, command) = (TraceContext::parse(UPLINK), TraceContext::parse(COMMAND));
    let caller = ("corr", command);
    let (record, outcome) = by_subject(Mode::Structured).reply(&source("p", "d"), &route, &message, uplink, caller);
    assert_eq!(parsed(&record.payload)["traceparent"], UPLINK);
    assert_eq!(parsed(&outcome.payload)["traceparent"], COMMAND);
    assert_eq!((record.trace, outcome.trace), (uplink, command));
    let (record, outcome) = by_subject(Mode::Binary).reply(&source("p", "d"), &route, &message, uplink, caller);
    assert_eq!(attribute(&record.attributes).as_deref(), Some(UPLINK));
    assert_eq!(attribute(&outcome.attributes).as_deref(), Some(COMMAND));
}

#[test]
fn what_was_rejected_and_every_failure_have_a_place_too() {
    let mut encoder = by_subject(Mode::Structured);
    let trace = TraceContext::parse(COMMAND);
    let rejection = Rejection { topic: "/p/d/x", payload: None, reason: Reason::UnknownTopic, detail: "" };
    let record = encoder.rejected(&source("p", "d"), &rejection, trace);
    // It is not sampled, so nothing goes beside it.
    assert_eq!((parsed(&record.payload)["traceparent"].as_str(), record.trace), (Some(COMMAND), None));

    let command = Command::from_subject("p.d.properties.read", b"{}").expect("a command");
    let command = Command { trace, ..command };
    let identity = command.identity("1");
    let mut unreadable = CommandError::unreadable("no");
    *unreadable.trace_mut() = trace;
    let outcomes = [
        encoder.failure(&identity, Code::TimeOut, "no reply in time"),
        encoder.accepted(&identity),
        encoder.disconnected(&identity),
        encoder.refused(&CommandError::Unsupported(Box::new(identity), "no".to_owned())),
        encoder.refused(&unreadable),
    ];
    for outcome in outcomes {
        let envelope = parsed(&outcome.payload);
        assert_eq!((envelope["traceparent"].as_str(), outcome.trace), (Some(COMMAND), trace), "{envelope}");
    }
}

#[test]
fn without_a_trace_there_is_no_attribute() {
    let mut encoder = by_subject(Mode::Structured);
    assert_eq!(encoder.tracer.begin(TraceContext::parse(COMMAND)), None, "an encoder traces without being told to");
    let record = crate::support::record(&mut encoder, "/p/d/properties/report", r#"{"properties":{}}"#);
    assert_eq!((parsed(&record.payload).get("traceparent"), record.trace), (None::<&Value>, None));
}
