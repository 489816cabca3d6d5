//! One of several brokers of Kafka in trouble.

use std::time::Duration;

use crate::support::{Bridge, KafkaPair, Load, Registry, Settings, eventually};

const PATIENCE: Duration = Duration::from_secs(60);
const DEVICES: usize = 20;

fn stored(bridge: &Bridge) -> f64 {
    bridge.metric("jetlinks_bridge_queue_records_total", &["stored"])
}

#[test]
fn a_broker_that_hangs_costs_no_device_its_connection_when_another_one_takes_over() {
    let kafka = KafkaPair::start();
    for topic in ["jetlinks.device", "jetlinks.rejected"] {
        kafka.create_topic(topic);
    }
    let (registry, _) = Registry::numbered(DEVICES);
    let settings = Settings::kafka(&registry, kafka.first()).text("kafka.brokers", &kafka.brokers());
    let bridge = Bridge::start(&settings);
    let mut load = Load::start(bridge.mqtt(), &registry, DEVICES, 5.0);
    eventually("messages are stored", PATIENCE, || (stored(&bridge) > 500.0).then_some(()));

    kafka.second().signal(libc::SIGSTOP);
    // More than `limits.ack_timeout` at the rate of the load.
    let before = stored(&bridge);
    eventually("messages are stored with one broker", PATIENCE, || (stored(&bridge) > before + 2_000.0).then_some(()));
    let closed = bridge.metric("jetlinks_bridge_sessions_closed_total", &["not_acknowledged"]);
    assert_eq!(closed, 0.0, "{}", bridge.log());
    load.finish();
    load.verify(&bridge.config());
    kafka.second().signal(libc::SIGCONT);
}
