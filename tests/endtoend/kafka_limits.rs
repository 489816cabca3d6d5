//! Topics that do not take everything, and devices that have nothing to do with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jetlinks_bridge::codec::coap::Code;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

use crate::kafka_security::code_of_connect;
use crate::support::bridge::wait_for_log;
use crate::support::caller::quantile;
use crate::support::registry::now_ms;
use crate::support::{
    Authority, Bridge, CoapDevice, Device, Kafka, Load, Registration, Registry, SecuredKafka, Settings, Wire,
    eventually,
};

const PATIENCE: Duration = Duration::from_secs(60);
const LIMIT: &[(&str, &str)] = &[("max.message.bytes", "20000")];
const DEVICES: usize = 60;
/// Devices that come and go: one alone would do it too often.
const QUIET: usize = 30;
/// Between two reports of a bystander.
const PACE: Duration = Duration::from_millis(10);
/// Reports of a bystander that are measured at least.
const REPORTS: usize = 100;
/// A PUBACK within this time is soon enough whatever it took before.
const SOON: Duration = Duration::from_millis(50);

fn stored(bridge: &Bridge) -> f64 {
    bridge.metric("jetlinks_bridge_queue_records_total", &["stored"])
}

/// Envelopes of a topic.
fn envelopes(kafka: &Kafka, topic: &str) -> Vec<Value> {
    let output = kafka.run_kcat(&["-C", "-t", topic, "-e", "-q", "-o", "beginning"]);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn assert_undisturbed(bridge: &Bridge) {
    for (metric, labels) in [
        ("sessions_closed_total", &["not_acknowledged"][..]),
        ("queue_outages_total", &[]),
        ("queue_stalls_total", &[]),
    ] {
        assert_eq!(bridge.metric(&format!("jetlinks_bridge_{metric}"), labels), 0.0, "{metric}: {}", bridge.log());
    }
}

/// A device that reports at a steady pace and has nothing to do with the trouble of others.
struct Bystander {
    thread: JoinHandle<(Wire, Vec<Duration>)>,
    count: Arc<AtomicUsize>,
    end: Sender<()>,
}

impl Bystander {
    /// Reports until its end.
    ///
    /// # Panics
    /// In its thread, when a report gets anything but its PUBACK.
    fn start(mut wire: Wire, device: &Registration) -> Self {
        let (end, is_ended) = mpsc::channel::<()>();
        let (topic, count) = (device.topic("properties/report"), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&count);
        let thread = thread::spawn(move || {
            let mut times = Vec::new();
            while is_ended.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                let begin = Instant::now();
                wire.publish_acknowledged(&topic, r#"{"properties":{"calm":1}}"#, 1);
                times.push(begin.elapsed());
                counter.fetch_add(1, Ordering::Relaxed);
            }
            (wire, times)
        });
        Self { thread, count, end }
    }

    fn wait_for(&self, reports: usize) {
        let count = || self.count.load(Ordering::Relaxed);
        eventually("a bystander reports", PATIENCE, || (count() >= reports).then_some(()));
    }

    /// Its connection, and what 99 of 100 PUBACKs took at most: the median over spans of so many, as the machine has other
    /// work, too.
    fn finish(self) -> (Wire, Duration) {
        drop(self.end);
        let (wire, mut times) = self.thread.join().expect("each report has its PUBACK");
        let mut spans: Vec<Duration> = times.chunks_mut(REPORTS).map(|span| quantile(span, 0.99)).collect();
        (wire, quantile(&mut spans, 0.5))
    }
}

/// What a bystander's PUBACK takes when it is alone.
fn calm(bridge: &Bridge, device: &Registration) -> (Wire, Duration) {
    let bystander = Bystander::start(Wire::connect(bridge.mqtt(), device), device);
    bystander.wait_for(REPORTS);
    bystander.finish()
}

/// A bystander is twice as slow as when it was alone at most; before or after, for the machine has other work, too.
fn assert_calm(bridge: &Bridge, bystander: Bystander, device: &Registration, before: Duration) {
    bystander.wait_for(REPORTS);
    let (wire, p99) = bystander.finish();
    drop(wire);
    let after = calm(bridge, device).1;
    assert!(p99 <= (2 * before.max(after)).max(SOON), "p99 {p99:?}, {before:?} before and {after:?} after");
}

/// Nine hundred bytes about a device.
fn large_reply(_topic: &str, _command: &Value) -> Option<Value> {
    Some(json!({"success": true, "properties": {"sn": "s".repeat(900)}}))
}

#[test]
fn sixty_devices_and_sixty_outcomes_at_once_fit_topics_that_take_20_000_bytes() {
    let kafka = Kafka::start_with_topics(&["jetlinks.command"], 1);
    for topic in ["jetlinks.device", "jetlinks.rejected", "jetlinks.reply"] {
        kafka.create_topic_with(topic, 1, LIMIT);
    }
    let (registry, devices) = Registry::numbered(2 * DEVICES + 1);
    // Batches as large as they become; nothing is handed over.
    let settings =
        Settings::kafka(&registry, &kafka).text("commands.queue", "kafka").text("kafka.properties.linger.ms", "200");
    let bridge = Bridge::start(&settings);
    wait_for_log(&bridge, &["commands are read from the end"]);
    let connect = |device: &Registration| Device::connect(bridge.mqtt(), device, large_reply);
    let _connected: Vec<Device> = devices[DEVICES..2 * DEVICES].iter().map(connect).collect();
    let (wire, calm) = calm(&bridge, &devices[2 * DEVICES]);
    let bystander = Bystander::start(wire, &devices[2 * DEVICES]);

    let mut load = Load::start_with(bridge.mqtt(), &registry, DEVICES, 5.0, &["--payload-bytes", "900"]);
    let caller: BaseProducer = kafka.client().set("partitioner", "murmur2_random").create().unwrap();
    for device in &devices[DEVICES..2 * DEVICES] {
        let command = json!({
            "messageType": "READ_PROPERTY", "productId": device.product, "deviceId": device.id,
            "messageId": device.id, "properties": ["sn"],
        });
        let command = command.to_string();
        let record = BaseRecord::to("jetlinks.command").key(&device.id).payload(&command).timestamp(now_ms());
        caller.send(record).map_err(|(error, _)| error).unwrap();
    }
    caller.flush(PATIENCE).unwrap();
    eventually("every command has its outcome", PATIENCE, || {
        let outcomes = envelopes(&kafka, "jetlinks.reply");
        let is_answered = |outcome: &&Value| outcome["data"]["success"] == true;
        assert_eq!(outcomes.iter().filter(|outcome| !is_answered(outcome)).count(), 0, "{outcomes:?}");
        (outcomes.iter().filter(is_answered).count() == DEVICES).then_some(())
    });
    eventually("reports are stored", PATIENCE, || (stored(&bridge) > 2_000.0).then_some(()));
    load.finish();
    assert_calm(&bridge, bystander, &devices[2 * DEVICES], calm);
    assert_undisturbed(&bridge);
    load.verify(&bridge.config());
}

#[test]
fn a_device_that_sends_more_than_its_topic_takes_keeps_no_other_one_out() {
    let kafka = Kafka::start_with_topics(&["jetlinks.rejected"], 1);
    kafka.create_topic_with("jetlinks.device", 1, LIMIT);
    let (registry, mut devices) = Registry::numbered(3 + QUIET);
    let quiet = devices.split_off(3);
    devices.push(Registration::encrypting("coap"));
    registry.rewrite(&[&devices[..], &quiet].concat());
    let bridge = Bridge::start(&Settings::kafka(&registry, &kafka).text("coap.listen", "127.0.0.1:0"));
    let mut load = Load::start(bridge.mqtt(), &registry, 1, 0.2);
    let (wire, calm) = calm(&bridge, &devices[2]);
    let bystander = Bystander::start(wire, &devices[2]);
    let mut greedy = Wire::connect(bridge.mqtt(), &devices[1]);
    let body = json!({"properties": {"a": "x".repeat(30_000)}}).to_string();
    let begin = Instant::now();
    let mut id = 0;
    // For longer than a queue may be silent, and than a device waits for its acknowledgement.
    while begin.elapsed() < Duration::from_secs(15) {
        id += 1;
        greedy.publish_acknowledged(&devices[1].topic("properties/report"), &body, id);
        // At a pace that leaves the processor to others: what is measured is the queue.
        assert_eq!(greedy.next_within(Duration::from_millis(50)), None);
        if id % 10 == 0 {
            let device = &quiet[usize::from(id / 10) % QUIET];
            assert_eq!(code_of_connect(&bridge, device), 0, "{}", bridge.log());
        }
    }
    let mut coap = CoapDevice::plain(bridge.listener("coap"));
    let request = coap.encrypted(&devices[3], "properties/report", &body);
    assert_eq!(coap.request(&request).code(), Code::REQUEST_ENTITY_TOO_LARGE);
    assert_calm(&bridge, bystander, &devices[2], calm);
    assert_undisturbed(&bridge);
    let refused = envelopes(&kafka, "jetlinks.rejected");
    assert_eq!(refused.len(), usize::from(id) + 1);
    assert!(refused.iter().all(|rejected| rejected["data"]["reason"] == "too_large"), "{refused:?}");
    load.finish();
    load.verify(&bridge.config());
}

#[test]
fn a_topic_that_may_not_be_written_costs_only_those_whose_records_go_there() {
    const USER: &str = "bridge";
    let secured = SecuredKafka::start(&Authority::new(), USER, "password");
    let kafka = secured.kafka();
    // The limit is one that the bridge may not ask for.
    kafka.create_topic_with("jetlinks.device", 1, LIMIT);
    kafka.create_topic("jetlinks.rejected", 1);
    let user = format!("User:{USER}");
    for (operation, topic) in
        [("Write", "jetlinks.device"), ("Describe", "jetlinks.device"), ("Describe", "jetlinks.rejected")]
    {
        secured.run_acls(&["--add", "--allow-principal", &user, "--operation", operation, "--topic", topic]);
    }
    let (registry, devices) = Registry::numbered(DEVICES + 2);
    let settings = Settings::kafka(&registry, kafka)
        .text("kafka.brokers", &secured.sasl())
        .text("kafka.properties.security.protocol", "SASL_PLAINTEXT")
        .text("kafka.properties.sasl.mechanism", "PLAIN")
        .text("kafka.properties.sasl.username", USER)
        .text("kafka.properties.sasl.password", "password")
        .text("kafka.properties.linger.ms", "200");
    let bridge = Bridge::start(&settings);
    // `verify` reads as somebody who may.
    let reading = Bridge::spawn(&Settings::kafka(&registry, kafka), &["--set", "mqtt.listen="]);
    let mut unlucky = Wire::connect(bridge.mqtt(), &devices[DEVICES]);
    unlucky.publish(&devices[DEVICES].topic("no/such/topic"), "{}", 1, 1);
    let line =
        wait_for_log(&bridge, &["Kafka does not take records", "topic jetlinks.rejected", "uthorization failed"]);
    assert!(line.contains("ERROR"), "{line}");
    // Nobody else sends anything: what the queue does with this one record says nothing about the others.
    eventually("the device whose record goes nowhere is closed", PATIENCE, || {
        assert_eq!(bridge.readiness().1["queue"], "ok", "{}", bridge.log());
        (bridge.metric("jetlinks_bridge_sessions_closed_total", &["not_acknowledged"]) == 1.0).then_some(())
    });
    assert_eq!(bridge.metric("jetlinks_bridge_queue_stalls_total", &[]), 0.0, "{}", bridge.log());
    assert_eq!(code_of_connect(&bridge, &devices[DEVICES + 1]), 0);

    let mut load = Load::start_with(bridge.mqtt(), &registry, DEVICES, 5.0, &["--payload-bytes", "900"]);
    eventually("reports are stored", PATIENCE, || (stored(&bridge) > 1_000.0).then_some(()));
    assert!(bridge.log().contains("batches are smaller from now on"), "{}", bridge.log());
    assert_eq!(bridge.metric("jetlinks_bridge_sessions_closed_total", &["not_acknowledged"]), 1.0);
    assert_eq!(bridge.metric("jetlinks_bridge_queue_outages_total", &[]), 0.0, "{}", bridge.log());
    load.finish();
    load.verify(&reading.config());
}
