//! Kafka at the end of a link that is slower than what devices want to say.

use std::time::Duration;

use crate::support::link::End;
use crate::support::{Bridge, LinkedKafka, Load, Registry, Settings, eventually};

const PATIENCE: Duration = Duration::from_secs(90);
const BYTES_PER_SECOND: u32 = 100_000;

/// A broker behind a slow link, a bridge, and devices that want to say more than it carries: each has twenty messages of
/// about a kilobyte under way.
struct Stage {
    kafka: LinkedKafka,
    bridge: Bridge,
    load: Load,
    _registry: Registry,
}

impl Stage {
    fn start(devices: usize, rate: f64) -> Self {
        let kafka = LinkedKafka::start(BYTES_PER_SECOND);
        for topic in ["jetlinks.device", "jetlinks.rejected"] {
            kafka.kafka().create_topic(topic, 1);
        }
        let (registry, _) = Registry::numbered(devices);
        let brokers = kafka.link().address().to_string();
        let bridge = Bridge::start(&Settings::kafka(&registry, kafka.kafka()).text("kafka.brokers", &brokers));
        let load = Load::start_with(bridge.mqtt(), &registry, devices, rate, &["--payload-bytes", "500"]);
        Self { kafka, bridge, load, _registry: registry }
    }

    fn wait_for_more(&self, count: f64) {
        let stored = || self.bridge.metric("jetlinks_bridge_stored_total", &[]);
        let before = stored();
        eventually("messages get through", PATIENCE, || (stored() > before + count).then_some(()));
    }

    /// Ends the load: nothing is lost, and the order is right.
    fn finish(mut self) {
        self.load.finish();
        self.load.verify(&self.bridge.config());
    }
}

#[test]
fn a_link_slower_than_the_demand_carries_what_it_can_and_in_order() {
    let stage = Stage::start(20, 20.0);
    stage.wait_for_more(1_500.0);
    for (metric, labels) in [("queue_outages_total", &[][..]), ("sessions_closed_total", &["not_acknowledged"])] {
        let count = stage.bridge.metric(&format!("jetlinks_bridge_{metric}"), labels);
        assert_eq!(count, 0.0, "{metric}: {}", stage.bridge.log());
    }
    stage.finish();
}

#[test]
fn what_lies_in_a_link_that_stands_still_is_not_stored_behind_what_is_sent_later() {
    let stage = Stage::start(5, 50.0);
    for stalls in [1.0, 2.0] {
        stage.wait_for_more(200.0);
        stage.kafka.link().silence();
        eventually("the bridge notices", PATIENCE, || {
            (stage.bridge.metric("jetlinks_bridge_queue_stalls_total", &[]) == stalls).then_some(())
        });
        stage.kafka.link().heal();
    }
    stage.wait_for_more(200.0);
    stage.finish();
}

#[test]
fn what_a_broker_hears_late_is_not_stored_behind_what_is_sent_later() {
    let stage = Stage::start(20, 10.0);
    let failed = || stage.bridge.metric("jetlinks_bridge_queue_records_total", &["failed"]);
    for _ in 0..2 {
        stage.wait_for_more(200.0);
        let before = failed();
        stage.kafka.link().silence_to(End::Far);
        // Their time is over, and the broker gets them all the same.
        eventually("records are given up", PATIENCE, || (failed() > before).then_some(()));
        stage.kafka.link().heal();
    }
    stage.wait_for_more(200.0);
    stage.finish();
}
