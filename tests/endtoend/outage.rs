//! Crashes under load: what was acknowledged is there, in order, and traffic is back soon.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::Value;

use crate::support::{Bridge, Kafka, Load, Nats, Registry, Settings, Stopwatch, eventually, http, port};

/// Devices of the load.
const DEVICES: usize = 100;
/// Messages per second of each.
const RATE: f64 = 10.0;
/// Traffic is back within this time after the queue is.
const BACK_WITHIN: Duration = Duration::from_secs(10);
/// Memory of the bridge beside its fixed part, at most, in bytes.
const INFLIGHT_BYTES: u64 = 16 << 20;
/// The promise about memory: fixed part, messages on their way, connections.
const RESIDENT_BYTES_MAX: u64 = (64 << 20) + INFLIGHT_BYTES + (16 << 10) * DEVICES as u64;

const PATIENCE: Duration = Duration::from_secs(60);

/// One outage at a time: the processor is to be busy with the load, not with other loads.
static ALONE: Mutex<()> = Mutex::new(());

fn settings_with_limits(settings: Settings) -> Settings {
    settings.text("limits.inflight_bytes", "16MiB").text("mqtt.listen", &format!("127.0.0.1:{}", port::free_port()))
}

/// Waits until more than `before` messages are stored, and shows that it took no longer than promised.
fn assert_back(before: u64, stored: impl Fn() -> Option<u64>) {
    let watch = Stopwatch::start();
    eventually("messages are stored again", PATIENCE, || stored().filter(|now| *now > before));
    let took = watch.elapsed();
    assert!(took < BACK_WITHIN, "traffic was away for {took:?}");
}

fn wait_stored(count: u64, stored: impl Fn() -> Option<u64>) {
    eventually("messages are stored", PATIENCE, || stored().filter(|now| *now > count));
}

fn wait_away(bridge: &Bridge) {
    eventually("the bridge sees that its queue is away", PATIENCE, || {
        let (status, body) = bridge.readiness();
        assert_eq!(status, 200, "an outage does not take a bridge out of service: {body}");
        (body["queue"] == "away").then_some(())
    });
}

fn assert_memory_bounded(bridge: &mut Bridge) {
    let resident = bridge.process().resident_bytes();
    assert!(resident <= RESIDENT_BYTES_MAX, "{resident} bytes, {RESIDENT_BYTES_MAX} promised");
}

fn in_stream(nats: &Nats) -> Option<u64> {
    let page = http::get(nats.monitoring(), "/jsz").ok()?;
    serde_json::from_str::<Value>(&page.body).ok()?["messages"].as_u64()
}

fn in_topic(kafka: &Kafka) -> Option<u64> {
    let consumer: BaseConsumer = kafka.client().create().ok()?;
    let high = |partition| consumer.fetch_watermarks("jetlinks.device", partition, Duration::from_secs(2)).ok();
    (0..3).map(|partition| high(partition).map(|(_, high)| high.unsigned_abs())).sum()
}

#[test]
fn a_crash_of_nats_under_load_loses_nothing_and_traffic_is_back_within_10_s() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut nats = Nats::start();
    let (registry, _) = Registry::numbered(DEVICES);
    let mut bridge = Bridge::start(&settings_with_limits(Settings::nats(&registry, &nats)));
    let mut load = Load::start(bridge.mqtt(), &registry, DEVICES, RATE);
    wait_stored(2000, || in_stream(&nats));

    nats.kill9();
    wait_away(&bridge);
    assert_memory_bounded(&mut bridge);
    nats.restart();
    let before = in_stream(&nats).unwrap();
    assert_back(before, || in_stream(&nats));
    wait_stored(before + 2000, || in_stream(&nats));

    assert_memory_bounded(&mut bridge);
    load.finish();
    load.verify(&bridge.config());
}

#[test]
fn a_crash_of_kafka_under_load_loses_nothing_and_traffic_is_back_within_10_s() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut kafka = Kafka::start_with_topics(&["jetlinks.device", "jetlinks.rejected"], 3);
    let (registry, _) = Registry::numbered(DEVICES);
    let mut bridge = Bridge::start(&settings_with_limits(Settings::kafka(&registry, &kafka)));
    let mut load = Load::start(bridge.mqtt(), &registry, DEVICES, RATE);
    wait_stored(2000, || in_topic(&kafka));

    kafka.kill9();
    wait_away(&bridge);
    assert_memory_bounded(&mut bridge);
    kafka.restart();
    let before = eventually("Kafka answers again", PATIENCE, || in_topic(&kafka));
    assert_back(before, || in_topic(&kafka));
    wait_stored(before + 2000, || in_topic(&kafka));

    assert_memory_bounded(&mut bridge);
    load.finish();
    load.verify(&bridge.config());
}

#[test]
fn a_crash_of_the_bridge_under_load_loses_nothing_that_was_acknowledged() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let nats = Nats::start();
    let (registry, _) = Registry::numbered(DEVICES);
    let settings = settings_with_limits(Settings::nats(&registry, &nats));
    let mut bridge = Bridge::start(&settings);
    let mut load = Load::start(bridge.mqtt(), &registry, DEVICES, RATE);
    for _ in 0..2 {
        let before = in_stream(&nats).unwrap();
        wait_stored(before + 1000, || in_stream(&nats));
        bridge.process().kill9();
        bridge = Bridge::start(&settings);
    }
    let before = in_stream(&nats).unwrap();
    assert_back(before, || in_stream(&nats));
    wait_stored(before + 1000, || in_stream(&nats));
    let summary = load.finish();
    assert!(summary["reconnects"].as_u64().is_some_and(|count| count >= DEVICES as u64), "{summary}");
    load.verify(&bridge.config());
}

#[test]
fn a_crash_of_the_bridge_while_its_queue_hangs_loses_nothing_that_was_acknowledged() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let nats = Nats::start();
    let (registry, _) = Registry::numbered(DEVICES);
    let settings = settings_with_limits(Settings::nats(&registry, &nats));
    let mut bridge = Bridge::start(&settings);
    // As fast as acknowledgements allow: were they given too early, more would be on its way than sockets hold.
    let mut load = Load::start(bridge.mqtt(), &registry, DEVICES, 0.0);
    wait_stored(2000, || in_stream(&nats));
    nats.process().signal(libc::SIGSTOP);
    wait_away(&bridge);
    bridge.process().kill9();
    nats.process().signal(libc::SIGCONT);
    let before = eventually("NATS answers again", PATIENCE, || in_stream(&nats));
    bridge = Bridge::start(&settings);
    wait_stored(before + 1000, || in_stream(&nats));
    load.finish();
    load.verify(&bridge.config());
}

#[test]
fn a_kafka_that_hangs_holds_bounded_memory_and_loses_nothing_when_it_goes_on() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let kafka = Kafka::start_with_topics(&["jetlinks.device", "jetlinks.rejected"], 3);
    let (registry, _) = Registry::numbered(DEVICES);
    let mut bridge = Bridge::start(&settings_with_limits(Settings::kafka(&registry, &kafka)));
    let mut load = Load::start(bridge.mqtt(), &registry, DEVICES, 0.0);
    wait_stored(2000, || in_topic(&kafka));
    kafka.process().signal(libc::SIGSTOP);
    wait_away(&bridge);
    assert_memory_bounded(&mut bridge);
    kafka.process().signal(libc::SIGCONT);
    let before = eventually("Kafka answers again", PATIENCE, || in_topic(&kafka));
    assert_back(before, || in_topic(&kafka));
    wait_stored(before + 2000, || in_topic(&kafka));
    assert_memory_bounded(&mut bridge);
    load.finish();
    load.verify(&bridge.config());
}

#[test]
fn a_rolling_restart_under_load_loses_nothing_and_ends_well() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let kafka = Kafka::start_with_topics(&["jetlinks.device", "jetlinks.rejected"], 3);
    let (registry, _) = Registry::numbered(DEVICES);
    let settings = settings_with_limits(Settings::kafka(&registry, &kafka));
    let mut bridge = Bridge::start(&settings);
    let mut load = Load::start(bridge.mqtt(), &registry, DEVICES, RATE);
    for _ in 0..2 {
        let before = in_topic(&kafka).unwrap();
        wait_stored(before + 1000, || in_topic(&kafka));
        bridge.signal(libc::SIGTERM);
        assert_eq!(bridge.exit_code(), 0, "{}", bridge.log());
        bridge = Bridge::start(&settings);
    }
    let before = in_topic(&kafka).unwrap();
    wait_stored(before + 1000, || in_topic(&kafka));
    load.finish();
    load.verify(&bridge.config());
}
