//! The page, and its documentation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::description::{Description, PREFIX};
use super::*;
use crate::protocol::limit::Load;
use crate::protocol::topic::MessageKind;
use crate::protocol::topic::MessageType;
use crate::protocol::uplink::Availability;
use crate::session::mqtt::{Ending, Event};
use crate::telemetry::health::{Health, PartState};

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(Arc::new(Health::new(1)), 1_700_000_000_123))
}

/// The name as the page has it; those that the client libraries of Prometheus share have no prefix.
fn full_name(metric: &Description) -> String {
    if metric.name.starts_with("process_") { metric.name.to_owned() } else { format!("{PREFIX}_{}", metric.name) }
}

fn has(page: &str, line: &str) -> bool {
    page.lines().any(|other| other == line)
}

#[test]
fn the_page_adds_workers_up() {
    let metrics = metrics();
    let (first, second) = (metrics.worker(0), metrics.worker(1));
    first.count(&Event::Received(MessageKind::Type(MessageType::ReportProperty)));
    second.count(&Event::Received(MessageKind::Type(MessageType::ReportProperty)));
    first.connections[(Transport::Mqtt, ConnectionState::Opening)].inc();
    second.connections[(Transport::Mqtt, ConnectionState::Opening)].inc();
    second.connections[(Transport::Mqtt, ConnectionState::Opening)].dec();
    first.set_load(&Load { held_bytes: 7, held_records: 2, commands: 0, ..Load::default() });
    second.set_load(&Load { held_bytes: 5, held_records: 1, commands: 4, ..Load::default() });
    let page = metrics.render();
    for line in [
        "jetlinks_bridge_messages_total{type=\"properties.report\",result=\"accepted\"} 2",
        "jetlinks_bridge_messages_total{type=\"event\",result=\"rejected\"} 0",
        "jetlinks_bridge_connections{transport=\"mqtt\",state=\"opening\"} 1",
        "jetlinks_bridge_inflight_bytes 12",
        "jetlinks_bridge_inflight_messages 3",
        "jetlinks_bridge_commands_pending 4",
    ] {
        assert!(has(&page, line), "{line} is not in\n{page}");
    }
}

#[test]
fn the_number_of_sessions_is_right_whichever_worker_counts_the_end() {
    let metrics = metrics();
    metrics.worker(0).accept();
    metrics.worker(1).count(&Event::Ended(Ending::TakenOver));
    let page = metrics.render();
    assert!(has(&page, "jetlinks_bridge_sessions 0"), "{page}");
    assert!(has(&page, "jetlinks_bridge_sessions_closed_total{cause=\"taken_over\"} 1"));
    assert!(has(&page, "jetlinks_bridge_connects_total{outcome=\"accepted\"} 1"));
}

#[test]
fn a_worker_asked_for_twice_is_the_same() {
    let metrics = metrics();
    metrics.worker(3).takeovers.inc();
    metrics.worker(3).takeovers.inc();
    assert_eq!(metrics.worker(3).takeovers.get(), 2);
    assert!(has(&metrics.render(), "jetlinks_bridge_takeovers_total 2"));
}

#[test]
fn a_histogram_counts_cumulatively_up_to_its_bounds() {
    let metrics = metrics();
    let worker = metrics.worker(0);
    for latency_us in [500, 501, 1_000_000, 11_000_000] {
        worker.count(&Event::Stored { latency_us, queue_us: 7 });
    }
    let page = metrics.render();
    let name = "jetlinks_bridge_acknowledgement_duration_seconds";
    for (bound, count) in [("0.0005", 1), ("0.001", 2), ("0.5", 2), ("1", 3), ("10", 3), ("+Inf", 4)] {
        let line = format!("{name}_bucket{{le=\"{bound}\"}} {count}");
        assert!(has(&page, &line), "{line} is not in\n{page}");
    }
    assert!(has(&page, &format!("{name}_sum 12.001001")) && has(&page, &format!("{name}_count 4")));
}

#[test]
fn each_worker_has_numbers_of_its_own_until_it_ends() {
    let health = Arc::new(Health::new(2));
    let metrics = Arc::new(Metrics::new(Arc::clone(&health), 0));
    metrics.worker(0).set_load(&Load { held_bytes: 7, ..Load::default() });
    metrics.worker(1).set_load(&Load { held_bytes: 5, ..Load::default() });
    let page = metrics.render();
    assert!(has(&page, "jetlinks_bridge_worker_inflight_bytes{worker=\"0\"} 7"), "{page}");
    assert!(has(&page, "jetlinks_bridge_worker_inflight_bytes{worker=\"1\"} 5"), "{page}");
    let age = |page: &str, worker: usize| {
        let start = format!("jetlinks_bridge_worker_tick_age_seconds{{worker=\"{worker}\"}} ");
        page.lines().find_map(|line| line.strip_prefix(&start)?.parse::<f64>().ok())
    };
    assert!(age(&page, 0).is_some_and(|age| age < 60.0) && age(&page, 1).is_some());
    health.ended(1);
    let page = metrics.render();
    assert!(age(&page, 0).is_some() && age(&page, 1).is_none(), "{page}");
    assert!(page.contains("jetlinks_bridge_worker_cpu_seconds_total{worker=\"1\"} "), "a counter stays");
}

#[test]
fn health_shows_and_parts_that_are_off_do_not() {
    let health = Arc::new(Health::new(1));
    let metrics = Arc::new(Metrics::new(Arc::clone(&health), 1_700_000_000_123));
    health.queue.set(0, PartState::Away);
    health.registry.set(0, PartState::Ok);
    let page = metrics.render();
    assert!(has(&page, "jetlinks_bridge_part_up{part=\"queue\"} 0"), "{page}");
    assert!(has(&page, "jetlinks_bridge_part_up{part=\"registry\"} 1"));
    assert!(!page.contains("part=\"coordination\"") && !page.contains("part=\"commands\""));
    health.set_commands(0, Availability::Ok);
    assert!(!metrics.render().contains("part=\"commands\""), "none are expected");
    health.expect_commands();
    assert!(has(&metrics.render(), "jetlinks_bridge_part_up{part=\"commands\"} 0"));
    health.set_commands(0, Availability::Ok);
    assert!(has(&metrics.render(), "jetlinks_bridge_part_up{part=\"commands\"} 1"));
    assert!(has(&page, "jetlinks_bridge_ready 0"));
    assert!(has(&page, "jetlinks_bridge_start_time_seconds 1700000000.123"));
}

#[test]
fn what_is_counted_elsewhere_is_read_with_the_page() {
    let metrics = metrics();
    let count = Arc::new(AtomicU64::new(1));
    let counted = Arc::clone(&count);
    metrics.read_from(move |process| process.queue_outages.set(counted.load(Ordering::Relaxed)));
    assert!(has(&metrics.render(), "jetlinks_bridge_queue_outages_total 1"));
    count.store(5, Ordering::Relaxed);
    assert!(has(&metrics.render(), "jetlinks_bridge_queue_outages_total 5"));
}

#[test]
fn each_value_of_a_label_has_a_place_of_its_own() {
    let metrics = metrics();
    for kind in MessageKind::all() {
        metrics.worker(0).count(&Event::Received(kind));
        let line = format!("jetlinks_bridge_messages_total{{type=\"{}\",result=\"accepted\"}} 1", kind.text());
        assert!(has(&metrics.render(), &line), "{line}");
    }
}

#[test]
fn the_documentation_lists_every_metric_with_its_kind_labels_and_meaning_and_no_other() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).unwrap();
    let documented: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| Some((line.strip_prefix("| `")?.split_once('`')?.0, line)))
        .filter(|(name, _)| name.starts_with("jetlinks_bridge_") || name.starts_with("process_"))
        .filter(|(name, _)| !name.contains(' '))
        .map(|(name, line)| (name.to_owned(), line.to_owned()))
        .collect();
    let known: BTreeMap<String, String> = metrics()
        .descriptions()
        .into_iter()
        .map(|metric| {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{} ", labels.join(", ")) };
            let name = full_name(&metric);
            let line = format!("| `{name}` | {} | {labels}| {} |", metric.kind.as_str(), metric.help);
            (name, line)
        })
        .collect();
    assert_eq!(documented, known);
}

#[test]
fn every_metric_is_on_the_page_once_and_the_page_has_no_other() {
    let page = metrics().render();
    let types: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let names: Vec<_> = metrics().descriptions().iter().map(full_name).collect();
    assert_eq!(types, names);
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        assert!(names.iter().any(|other| name.starts_with(other)), "{line}");
    }
}
