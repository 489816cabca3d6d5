//! Records that were packed, and one that was spoilt.

use std::time::Duration;

use serde_json::Value;

use crate::support::{Bridge, Kafka, Load, Registry, Settings, Spoilt, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn verify_reads_packed_records_and_names_a_batch_that_it_cannot_read() {
    let mut kafka = Kafka::start_with_topics(&["jetlinks.device", "jetlinks.rejected"], 1);
    let (registry, _) = Registry::numbered(10);
    let settings = Settings::kafka(&registry, &kafka).text("kafka.properties.compression.type", "zstd");
    let bridge = Bridge::start(&settings.text("kafka.properties.linger.ms", "20"));
    let mut load = Load::start(bridge.mqtt(), &registry, 10, 20.0);
    eventually("messages are stored", PATIENCE, || {
        (bridge.metric("jetlinks_bridge_queue_records_total", &["stored"]) > 500.0).then_some(())
    });
    load.finish();
    assert_eq!(load.verify(&bridge.config())["unreadable"], 0);
    let segment = std::fs::read(kafka.segment("jetlinks.device", 0)).unwrap();
    assert!(segment.len() < 500 * 200, "nothing was packed: {} bytes", segment.len());

    kafka.spoil(&[("jetlinks.device", 0, 0, Spoilt::Codec(6))]);
    let finished = load.run_verify(&bridge.config());
    let verdict: Value = serde_json::from_str(&finished.stdout).unwrap_or_else(|e| panic!("{e}: {finished:?}"));
    assert_eq!((&verdict["unreadable"], &verdict["out_of_order"]), (&Value::from(1), &Value::from(0)), "{verdict}");
    let named = "verify: topic jetlinks.device: partition 0, offset";
    assert!(finished.stderr.starts_with(named) && finished.stderr.contains("codec"), "{finished:?}");
    assert_eq!(finished.code, i32::from(verdict["lost"] != 0), "{finished:?}");
}
