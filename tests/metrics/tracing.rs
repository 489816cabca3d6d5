//! Collectors of spans that take them, refuse them, and take none.

use crate::PATIENCE;
use crate::page::Seen;
use crate::support::{Bridge, Collector, Registry, Settings, Wire, eventually};

const REPORT: &str = r#"{"properties":{"a":1}}"#;

/// Plays the part.
pub(crate) fn play() -> Seen {
    let mut seen = Seen::default();
    let (registry, devices) = Registry::numbered(1);
    for (collector, outcome) in
        [(Collector::start(), "exported"), (Collector::answering(400), "failed"), (Collector::hanging(), "dropped")]
    {
        let settings =
            Settings::stdio(&registry).text("tracing.endpoint", &collector.url()).toml("tracing.sample_ratio", "1");
        let bridge = Bridge::start(&settings);
        let mut wire = Wire::connect(bridge.mqtt(), &devices[0]);
        let topic = devices[0].topic("properties/report");
        let mut id = 0;
        eventually(&format!("spans are {outcome}"), PATIENCE, || {
            id += 1;
            wire.publish_acknowledged(&topic, REPORT, id);
            // One batch is with the collector and 4,096 spans wait before any is dropped.
            for _ in 0..500 * usize::from(outcome == "dropped") {
                wire.publish(&topic, REPORT, 0, 0);
            }
            (bridge.metric("jetlinks_bridge_spans_total", &[outcome]) > 0.0).then_some(())
        });
        seen.scrape(&bridge);
    }
    seen
}
