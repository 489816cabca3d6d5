//! Tracing by itself: off, on, and with a collector that is no help.

use std::time::{Duration, Instant};

use jetlinks_bridge::protocol::trace::TraceContext;
use serde_json::Value;

use crate::Stage;
use crate::support::bridge::wait_for_log;
use crate::support::{Collector, eventually, port};

const PATIENCE: Duration = Duration::from_secs(60);

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn traced(url: &str) -> Stage {
    Stage::with(|settings| settings.text("tracing.endpoint", url).toml("tracing.sample_ratio", "1"))
}

fn context(envelope: &Value) -> TraceContext {
    let text = envelope["traceparent"].as_str().unwrap_or_else(|| panic!("{envelope}"));
    TraceContext::parse(text).unwrap_or_else(|| panic!("{envelope}"))
}

fn read_property() -> String {
    format!(
        r#"{{"messageType":"READ_PROPERTY","productId":"product1","deviceId":"device1","messageId":"m1",
        "headers":{{"traceparent":"{CALLER}","timeout":50}}}}"#
    )
    .replace('\n', "")
}

#[test]
fn without_an_endpoint_no_envelope_has_a_traceparent() {
    let mut stage = Stage::new();
    let device = stage.device1.clone();
    let mut wire = stage.connect(&device);
    wire.publish_acknowledged(&device.topic("properties/report"), r#"{"properties":{"t":1}}"#, 1);
    let report = stage.bridge.expect("device.properties.report", "device1");
    wire.publish_acknowledged(&device.topic("nosuch"), "{}", 2);
    let rejected = stage.bridge.expect("bridge.rejected", "device1");
    stage.bridge.type_line(&read_property());
    let failure = stage.bridge.expect("device.properties.read.reply", "device1");
    for envelope in [report, rejected, failure] {
        assert_eq!(envelope.get("traceparent"), None, "{envelope}");
    }
}

#[test]
fn a_command_on_stdin_keeps_the_trace_in_its_headers() {
    let collector = Collector::start();
    let mut stage = traced(&collector.url());
    let device = stage.device1.clone();
    let _wire = stage.connect(&device);
    stage.bridge.type_line(&read_property());
    let outcome = context(&stage.bridge.expect("device.properties.read.reply", "device1"));
    let command = collector.span(outcome);
    assert_eq!((command.parent().as_str(), command.attribute("error.type")), (&CALLER[36..52], "TIME_OUT"));
    let names = [("messaging.system", "stdio"), ("messaging.destination.name", "stdin")];
    assert!(names.iter().all(|(name, value)| command.attribute(name) == *value), "{command:?}");
}

#[test]
fn a_batch_is_posted_with_the_configured_headers_and_names() {
    let collector = Collector::start();
    let mut stage = Stage::with(|settings| {
        settings
            .text("tracing.endpoint", &format!("{}/v1/traces", collector.url()))
            .toml("tracing.sample_ratio", "1.0")
            .text("tracing.headers.x-api-key", "k1")
            .text("tracing.service_name", "bridge1")
    });
    let device = stage.device1.clone();
    let mut wire = stage.connect(&device);
    wire.publish_acknowledged(&device.topic("properties/report"), r#"{"properties":{"t":1}}"#, 1);
    let report = stage.bridge.expect("device.properties.report", "device1");
    assert_eq!(collector.span(context(&report)).resource["service.name"], "bridge1");
    let heads = collector.heads();
    for line in
        ["post /v1/traces http/1.1\r\n", "\r\nx-api-key: k1\r\n", "\r\ncontent-type: application/x-protobuf\r\n"]
    {
        assert!(heads[0].contains(line), "{line:?} is not in {heads:?}");
    }
}

#[test]
fn the_last_spans_leave_before_the_process_ends() {
    let collector = Collector::start();
    let mut stage = traced(&collector.url());
    let device = stage.device1.clone();
    let mut wire = stage.connect(&device);
    wire.publish_acknowledged(&device.topic("properties/report"), r#"{"properties":{"t":1}}"#, 1);
    let report = context(&stage.bridge.expect("device.properties.report", "device1"));
    stage.bridge.signal(libc::SIGTERM);
    assert_eq!(stage.bridge.exit_code(), 0, "{}", stage.bridge.log());
    assert!(collector.spans().iter().any(|span| span.context() == report), "the last span did not leave");
}

#[test]
fn a_collector_that_is_away_hangs_or_refuses_keeps_no_device_and_no_end_waiting() {
    let (hanging, refusing, busy) = (Collector::hanging(), Collector::answering(400), Collector::answering(503));
    let away = format!("http://127.0.0.1:{}", port::free_port());
    for url in [away, hanging.url(), refusing.url(), busy.url()] {
        let mut stage = Stage::with(|settings| {
            let settings = settings.text("log.level", "info,jetlinks_bridge::telemetry::span=debug");
            settings.text("tracing.endpoint", &url).toml("tracing.sample_ratio", "1")
        });
        let device = stage.device1.clone();
        let mut wire = stage.connect(&device);
        let begin = Instant::now();
        for id in 1..=100 {
            wire.publish_acknowledged(&device.topic("properties/report"), r#"{"properties":{"t":1}}"#, id);
            stage.bridge.expect("device.properties.report", "device1");
        }
        // A batch is offered for 5 s to a collector that hangs, and for 30 s to one that is away: less than all of them together.
        assert!(begin.elapsed() < PATIENCE, "{url}: {:?}", begin.elapsed());
        wait_for_log(&stage.bridge, &["the collector does not take spans"]);
        assert_eq!(stage.bridge.log().matches("collector").count(), 1, "{}", stage.bridge.log());
        stage.bridge.signal(libc::SIGTERM);
        assert_eq!(stage.bridge.exit_code(), 0, "{url}: {}", stage.bridge.log());
        let log = stage.bridge.log();
        // The last batch is offered once, for 5 s to a collector that hangs: longer than the end waits.
        assert!(url != hanging.url() || log.contains("the last spans are lost"), "{log}");
    }
}

#[test]
fn more_spans_than_can_wait_are_dropped_and_counted() {
    let collector = Collector::hanging();
    let mut stage = traced(&collector.url());
    let device = stage.device1.clone();
    let mut wire = stage.connect(&device);
    let mut id = 0;
    // One batch is with the collector, 4,096 spans wait.
    eventually("spans are dropped", PATIENCE, || {
        for _ in 0..500 {
            id += 1;
            wire.publish(&device.topic("properties/report"), r#"{"properties":{"t":1}}"#, 0, 0);
        }
        wire.publish_acknowledged(&device.topic("properties/report"), r#"{"properties":{"t":1}}"#, id);
        (stage.bridge.metric("jetlinks_bridge_spans_total", &["outcome=\"dropped\""]) > 0.0).then_some(())
    });
}

#[test]
fn what_a_collector_refuses_counts_as_failed() {
    let collector = Collector::answering(400);
    let mut stage = traced(&collector.url());
    let device = stage.device1.clone();
    let mut wire = stage.connect(&device);
    wire.publish_acknowledged(&device.topic("properties/report"), r#"{"properties":{"t":1}}"#, 1);
    eventually("the span has failed", PATIENCE, || {
        (stage.bridge.metric("jetlinks_bridge_spans_total", &["outcome=\"failed\""]) == 1.0).then_some(())
    });
}
