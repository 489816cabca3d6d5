//! The page of metrics over the real bridge: what the documentation lists is there and counts, and nothing else is.
//!
//! Each module is a part of the script that makes devices, callers and queues do everything that is counted.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod coap;
mod commands;
mod coordination;
mod kafka;
mod mqtt;
mod outage;
mod page;
mod registry;
mod tls;
mod tracing;

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use page::{Documented, Seen, Thing};
use support::{Bridge, eventually};

/// How long anything may take that takes seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reason why no NATS server gives the bridge up as slow consumer here.
const SLOW_CONSUMER: &str = "a bridge that stands still, which tests/endtoend stops";

/// Series that the script cannot raise, each with the reason.
const BEYOND_THE_SCRIPT: &[(&str, &str)] = &[
    ("commands_total outcome=system_error", "a fault of the bridge itself"),
    ("commands_total outcome=lost", "100,000 commands at once, which tests/broker sends"),
    ("coap_requests_total code=other", "every code that the bridge answers with has a name"),
    ("dtls_handshakes_total outcome=timed_out", "a handshake may be half open for 30 s"),
    ("tls_handshakes_total kind=resumed", "tests/interop resumes sessions with OpenSSL"),
    ("nats_slow_consumer_total", SLOW_CONSUMER),
    ("nats_slow_consumer_total role=uplink", SLOW_CONSUMER),
    ("nats_slow_consumer_total role=commands", SLOW_CONSUMER),
    ("nats_slow_consumer_total role=coordination", SLOW_CONSUMER),
    ("nats_slow_consumer_total role=hand_over", SLOW_CONSUMER),
    ("nats_slow_consumer_total role=registry", SLOW_CONSUMER),
    ("queue_acknowledgements_lost_total", "JetStream loses the acknowledgements of some records among others"),
    ("command_answers_total result=repeated", "Kafka gives an outcome back after five minutes"),
    ("command_answers_total result=dropped", "neither an outcome nor a short failure in its place is taken"),
    ("log_lines_suppressed_total level=error", "no peer can cause lines at error"),
    ("log_lines_dropped_total", "the log of a bridge in the script is a file, which takes every line"),
];

/// Series that are above 0 or not, as the machine has it.
const BY_THE_MACHINE: &[&str] = &["limit_memory_bytes"];

/// Waits until a metric of a bridge is above 0; `labels` stand in its line.
fn wait_counted(bridge: &Bridge, name: &str, labels: &[&str]) {
    eventually(&format!("{name} {labels:?} counts"), PATIENCE, || {
        (bridge.metric(&format!("jetlinks_bridge_{name}"), labels) > 0.0).then_some(())
    });
}

#[test]
fn every_documented_metric_and_value_of_a_label_counts_in_a_scripted_run_and_no_other_is_there() {
    let parts: [fn() -> Seen; 9] = [
        mqtt::play,
        tls::play,
        coap::play,
        commands::play,
        registry::play,
        coordination::play,
        outage::play,
        kafka::play,
        tracing::play,
    ];
    let playing: Vec<_> = parts.into_iter().map(thread::spawn).collect();
    let mut seen = Seen::default();
    let played: Vec<_> = playing.into_iter().map(thread::JoinHandle::join).collect();
    for part in played {
        seen.unite(part.expect("each part of the script comes to its end"));
    }

    let documented = Documented::read();
    let mut expected = BTreeSet::new();
    for (name, (_, labels)) in &documented.families {
        assert_eq!(seen.labels.get(name), Some(labels), "labels of {name}");
        expected.insert(Thing { name: name.clone(), label: None });
        for label in labels {
            let key = (name.clone(), label.clone());
            let values = documented.values.get(&key).unwrap_or_else(|| panic!("no values of {key:?} are listed"));
            let pair = |value: &String| Thing { name: name.clone(), label: Some((label.clone(), value.clone())) };
            expected.extend(values.iter().map(pair));
        }
    }
    let strangers: Vec<String> = seen
        .series
        .iter()
        .flat_map(|(name, labels)| {
            let things = labels.iter().map(|label| Thing { name: name.clone(), label: Some(label.clone()) });
            things.chain([Thing { name: name.clone(), label: None }])
        })
        .filter(|thing| !expected.contains(thing))
        .map(|thing| thing.to_string())
        .collect();
    assert!(strangers.is_empty(), "on the page and not in the documentation: {strangers:#?}");

    let silent: BTreeSet<String> =
        expected.iter().filter(|thing| !seen.counted.contains(thing)).map(Thing::to_string).collect();
    let silent: BTreeSet<String> = silent.into_iter().filter(|thing| !BY_THE_MACHINE.contains(&&**thing)).collect();
    let excused: BTreeSet<String> = BEYOND_THE_SCRIPT.iter().map(|(thing, _)| (*thing).to_owned()).collect();
    assert_eq!(silent, excused, "left: never above 0; right: what the script cannot cause");
}
