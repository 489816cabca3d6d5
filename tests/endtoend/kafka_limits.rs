//! Topics that do not take everything, and devices that have nothing to do with it.

use std::time::{Duration, Instant};

use jetlinks_bridge::codec::coap::Code;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

use crate::kafka_security::code_of_connect;
use crate::support::bridge::wait_for_log;
use crate::support::registry::now_ms;
use crate::support::{
    Authority, Bridge, Bystander, CoapDevice, Device, Kafka, Load, Registration, Registry, SecuredKafka, Settings,
    Wire, eventually,
};

const PATIENCE: Duration = Duration::from_secs(60);
const LIMIT: &[(&str, &str)] = &[("max.message.bytes", "20000")];
const DEVICES: usize = 60;
/// Devices that come and go: one alone would do it too often.
const QUIET: usize = 30;

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
    let bystander = Bystander::start(bridge.mqtt(), &devices[2 * DEVICES]);

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
    bystander.finish();
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
    let bystander = Bystander::start(bridge.mqtt(), &devices[2]);
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
    bystander.finish();
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
