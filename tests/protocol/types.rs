//! Types of envelopes: those that are documented are those that are written.

use std::collections::BTreeSet;

use jetlinks_bridge::protocol::command::{CommandError, CommandIdentity, UnreadableCommand};
use jetlinks_bridge::protocol::downlink::Code;
use jetlinks_bridge::protocol::envelope::{Cause, EnvelopeType, Mode, Reason, Rejection};
use jetlinks_bridge::protocol::topic::MessageType;

use crate::support::{by_subject, parsed, record, source};

const WIRE: &str = include_str!("../../docs/wire.md");

/// The types in the table of the documentation.
fn documented() -> BTreeSet<String> {
    let section = WIRE.split("### Types").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("the section");
    let rows = section.lines().filter(|line| line.starts_with("| `org."));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    cells.flat_map(|cell| cell.split('`').filter(|text| text.starts_with("org."))).map(str::to_owned).collect()
}

#[test]
fn the_types_that_the_documentation_lists_are_all_that_there_are() {
    let all: BTreeSet<String> = EnvelopeType::all().map(|envelope_type| envelope_type.to_string()).collect();
    assert_eq!(documented(), all);
    assert_eq!(EnvelopeType::all().count(), all.len(), "two have the same name");
}

#[test]
fn whatever_is_written_has_a_type_that_is_listed_and_every_listed_one_is_written() {
    let mut encoder = by_subject(Mode::Structured);
    let own = source("product1", "device1");
    let mut payloads = vec![encoder.online(&own, "").payload, encoder.offline(&own, Cause::Kicked).payload];
    payloads.push(encoder.replica(1, 30_000).payload);
    let rejection = Rejection { topic: "", payload: None, reason: Reason::TooLarge, detail: "" };
    payloads.push(encoder.rejected(&own, &rejection, None).payload);
    payloads.push(encoder.command_failed(&UnreadableCommand::default()).payload);
    for message_type in MessageType::all() {
        if message_type.goes_up() {
            let event = if message_type == MessageType::Event { "/e" } else { "" };
            let topic = format!("/product1/device1/{}{event}", message_type.suffix());
            payloads.push(record(&mut encoder, &topic, "{}").payload);
        }
        for message_type in [Some(message_type), None] {
            let identity = CommandIdentity {
                product: "product1".to_owned(),
                device: "device1".to_owned(),
                children: Vec::new(),
                message_type,
                message_id: None,
                correlation_id: None,
                about_product: None,
                trace: None,
            };
            payloads.push(encoder.accepted(&identity).payload);
            payloads.push(encoder.disconnected(&identity).payload);
            payloads.push(encoder.failure(&identity, Code::TimeOut, "").payload);
            let unsupported = CommandError::Unsupported(Box::new(identity), String::new());
            payloads.push(encoder.refused(&unsupported).payload);
        }
    }
    let types = payloads.iter().map(|payload| parsed(payload)["type"].as_str().expect("a type").to_owned());
    assert_eq!(types.collect::<BTreeSet<_>>(), documented());
}

/// The first column of the table that begins with this heading, without code marks.
fn column(heading: &str) -> BTreeSet<String> {
    let table = WIRE.split(heading).nth(1).expect("the table");
    let rows = table.lines().skip(2).take_while(|row| row.starts_with('|'));
    rows.map(|row| row.split('|').nth(1).expect("a cell").trim().trim_matches('`').to_owned()).collect()
}

fn words<T>(all: impl IntoIterator<Item = T>, word: impl Fn(T) -> &'static str) -> BTreeSet<String> {
    all.into_iter().map(|one| word(one).to_owned()).collect()
}

#[test]
fn the_words_that_the_documentation_lists_are_all_that_the_bridge_writes() {
    assert_eq!(column("\n| cause | the session ended because |"), words(Cause::ALL, Cause::as_str));
    assert_eq!(column("\n| `reason` | meaning |"), words(Reason::ALL, Reason::as_str));
    assert_eq!(column("\n| code | meaning | was it sent to the device? |"), words(Code::ALL, Code::as_str));
}
