//! Every kind of envelope, produced by devices, commands and the bridge itself, as the queues hold it.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use jetlinks_bridge::protocol::message::{FieldType, fields};
use jetlinks_bridge::protocol::topic::MessageType;
use serde_json::{Value, json};

use crate::commands::{Commander, KafkaCommander, NatsCommander};
use crate::support::packet::DISCONNECT;
use crate::support::stored::{Stored, read_stream, read_topic};
use crate::support::{Bridge, CoapDevice, Kafka, Nats, Registration, Registry, Settings, Wire, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

/// A record as a consumer gets it.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// `kafka` or `nats`.
    pub(crate) queue: &'static str,
    /// `structured` or `binary`.
    pub(crate) mode: &'static str,
    /// Headers.
    pub(crate) headers: BTreeMap<String, String>,
    /// Key of Kafka or subject of NATS.
    pub(crate) address: String,
    /// Payload.
    pub(crate) value: String,
}

impl Record {
    /// The whole envelope, in binary mode put together from headers and data.
    pub(crate) fn envelope(&self) -> Value {
        let value: Value = serde_json::from_str(&self.value).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        if self.mode == "structured" {
            return value;
        }
        let start = if self.queue == "kafka" { "ce_" } else { "ce-" };
        let mut envelope = json!({ "data": value, "datacontenttype": self.headers["content-type"] });
        for (name, value) in self.headers.iter().filter_map(|(name, value)| Some((name.strip_prefix(start)?, value))) {
            let text = percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned();
            envelope[name] = Value::from(if self.queue == "kafka" { value.clone() } else { text });
        }
        envelope
    }

    /// The end of its type.
    pub(crate) fn end(&self) -> String {
        let envelope = self.envelope();
        let name = envelope["type"].as_str().unwrap_or_default();
        name.trim_start_matches("org.jetlinks.device.").trim_start_matches("org.jetlinks.bridge.").to_owned()
    }
}

/// All that was produced.
pub(crate) struct Produced {
    /// Records of both queues in both modes.
    pub(crate) records: Vec<Record>,
    /// Commands that were given, with their address.
    pub(crate) commands: Vec<Value>,
}

/// What all runs produced; made once for all tests.
pub(crate) fn produced() -> &'static Produced {
    static PRODUCED: LazyLock<Produced> = LazyLock::new(|| {
        let mut produced = Produced { records: Vec::new(), commands: Vec::new() };
        let kafka = Kafka::start();
        for mode in ["structured", "binary"] {
            of_kafka(&kafka, mode, &mut produced);
            of_nats(mode, &mut produced);
        }
        produced
    });
    &PRODUCED
}

fn of_kafka(kafka: &Kafka, mode: &'static str, produced: &mut Produced) {
    let topic = |name: &str| format!("{mode}.{name}");
    let topics = ["device", "rejected", "command", "reply"].map(topic);
    topics.iter().for_each(|topic| kafka.create_topic(topic, 1));
    let [device, rejected, command, reply] = &topics;
    let registry = registry();
    let settings = Settings::kafka(&registry, kafka)
        .text("commands.queue", "kafka")
        .text("kafka.uplink_topic", device)
        .text("kafka.rejected_topic", rejected)
        .text("kafka.command_topic", command)
        .text("kafka.reply_topic", reply);
    let mut commander = KafkaCommander::new(kafka, command);
    run(settings, mode, &mut commander, produced);
    let client = kafka.client();
    let mut stored = eventually("every outcome is stored", PATIENCE, || {
        let stored = read_topic(&client, reply);
        (stored.len() >= commander.asked()).then_some(stored)
    });
    stored.extend([device, rejected].into_iter().flat_map(|topic| read_topic(&client, topic)));
    add("kafka", mode, stored, produced);
}

fn of_nats(mode: &'static str, produced: &mut Produced) {
    let (nats, registry) = (Nats::start(), registry());
    let mut commander = NatsCommander::connect(&nats.url());
    run(Settings::nats(&registry, &nats), mode, &mut commander, produced);
    let mut stored = read_stream(&[nats.url()]);
    stored.extend(commander.outcomes());
    add("nats", mode, stored, produced);
}

fn add(queue: &'static str, mode: &'static str, stored: Vec<Stored>, produced: &mut Produced) {
    let record = |Stored { headers, address, text, .. }| Record { queue, mode, headers, address, value: text };
    produced.records.extend(stored.into_iter().map(record));
}

/// device1, device2 over CoAP, and gw1 with child1; child2 is another's, and `ké y` shows what is encoded.
fn devices() -> [Registration; 6] {
    let id = Registration::new;
    let child = Registration { product: "product2".to_owned(), ..Registration::child("child1", "gw1") };
    [
        id("device1"),
        Registration::encrypting("device2"),
        id("gw1"),
        child,
        Registration::child("child2", "gw2"),
        id("ké y"),
    ]
}

fn registry() -> Registry {
    Registry::new(&devices())
}

fn run(settings: Settings, mode: &'static str, commander: &mut impl Commander, produced: &mut Produced) {
    let settings = settings
        .text("envelope.mode", mode)
        .text("coap.listen", "127.0.0.1:0")
        .text("limits.packet_bytes", "4KiB")
        .text("presence.heartbeat", "1s");
    let mut bridge = Bridge::start(&settings);
    let [device1, device2, gw1, _, _, encoded] = devices();
    let mut device = Wire::connect(bridge.mqtt(), &device1);
    let mut gateway = Wire::connect(bridge.mqtt(), &gw1);
    let mut other = Wire::connect(bridge.mqtt(), &encoded);

    for message_type in MessageType::all().filter(|message_type| message_type.goes_up()) {
        let suffix = suffix(message_type);
        for (id, body) in [full(message_type), full_in_other_words(message_type), "{}".to_owned()].iter().enumerate() {
            let id = u16::try_from(id + 1).expect("few");
            device.publish_acknowledged(&device1.topic(&suffix), body, id);
            gateway.publish_acknowledged(&gw1.topic(&format!("child/child1/{suffix}")), body, id);
        }
    }
    other.publish_acknowledged(&encoded.topic("event/feu à bord"), r#"{"data":"é"}"#, 1);
    other.publish_acknowledged(&encoded.topic("child/enfant é/child/c.1/tags"), r#"{"tags":{"é":"\u0001"}}"#, 2);
    let mut coap = CoapDevice::plain(bridge.listener("coap"));
    let report = coap.encrypted(&device2, "properties/report", r#"{"properties":{"temp":36.80}}"#);
    coap.request(&report);

    let long = format!("event/{}", "x".repeat(600));
    for (suffix, body) in [("nosuch", "{}"), ("log", r#"{"log":{}}"#), (long.as_str(), "{}")] {
        device.publish_acknowledged(&device1.topic(suffix), body, 9);
    }
    device.publish_acknowledged(&device1.topic("direct"), &"x".repeat(8_000), 9);
    gateway.publish_acknowledged(&gw1.topic("child/child2/tags"), "{}", 9);

    command(commander, &mut device, &mut gateway, produced);
    device.wait_closed();
    gateway.send(&DISCONNECT);
    gateway.wait_closed();
    drop(other);
    bridge.signal(libc::SIGTERM);
    assert_eq!(bridge.exit_code(), 0, "{}", bridge.log());
}

/// Gives every command in every way; the last one ends the session of the device.
fn command(commander: &mut impl Commander, device: &mut Wire, gateway: &mut Wire, produced: &mut Produced) {
    let types = || MessageType::all().filter(|message_type| message_type.goes_down());
    for message_type in types().filter(|message_type| *message_type != MessageType::Disconnect) {
        let mut give = |headers: Value| {
            let mut command = sample(message_type);
            command["headers"] = headers;
            commander.give(&command);
            produced.commands.push(command);
        };
        give(json!({ "correlation-id": "request1" }));
        let packet = device.next_publish();
        if message_type.reply().is_some() {
            device.reply(&packet, r#""code":7,"message":"well""#);
            for headers in [json!({ "async": true }), json!({ "timeout": 1 })] {
                give(headers);
                device.next_publish();
            }
        }
    }
    let own =
        |message_type: &str| json!({ "messageType": message_type, "productId": "product1", "deviceId": "device1" });
    let mut wrong = own("READ_PROPERTY");
    wrong["properties"] = json!(1);
    commander.give(&wrong);
    commander.give(&own("EVENT"));
    commander.give_unreadable();
    commander.give(&own("UPGRADE_FIRMWARE"));
    let id = device.next_publish().json()["messageId"].clone();
    let progress = json!({ "messageId": id, "progress": 1 }).to_string();
    device.publish("/product1/device1/firmware/upgrade/progress", &progress, 0, 0);
    for message_type in ["DIRECT", "DISCONNECT"] {
        let mut of_child = own(message_type);
        (of_child["gatewayId"], of_child["deviceId"]) = (json!("gw1"), json!("child1"));
        if message_type == "DIRECT" {
            of_child["payload"] = json!("AAECgA==");
        }
        commander.give(&of_child);
        produced.commands.push(of_child);
        let packet = gateway.next_publish();
        if message_type == "DISCONNECT" {
            gateway.reply(&packet, r#""success":"true""#);
        }
    }
    commander.give(&own("DISCONNECT"));
    produced.commands.extend([own("UPGRADE_FIRMWARE"), own("DISCONNECT")]);
    commander.wait_for_outcomes();
}

fn suffix(message_type: MessageType) -> String {
    let event = if message_type == MessageType::Event { "/alarm" } else { "" };
    format!("{}{event}", message_type.suffix())
}

/// A message with every field of its type, and one that the type has not.
fn full(message_type: MessageType) -> String {
    let mut body = json!({ "timestamp": 1_601_196_762_389_u64, "extra": [1, null] });
    for (name, field_type) in fields(message_type) {
        body[name] = value(field_type);
    }
    body.to_string()
}

/// The same in the other forms that the bridge takes.
fn full_in_other_words(message_type: MessageType) -> String {
    let mut body = json!({ "timestamp": "1601196762389", "deviceId": 3, "thingId": "x" });
    for (name, field_type) in fields(message_type) {
        body[name] = match field_type {
            FieldType::Text => json!(1.5),
            FieldType::Number => json!("7"),
            FieldType::Bool => json!("TRUE"),
            FieldType::Numbers => json!({ "a": "7", "b": -7.9, "c": null }),
            FieldType::Texts => json!({ "a": 1.5, "b": true, "c": null }),
            FieldType::Any => Value::Null,
            other => value(other),
        };
    }
    body.to_string()
}

fn value(field_type: FieldType) -> Value {
    match field_type {
        FieldType::Text => json!("text"),
        FieldType::Number => json!(i64::MIN),
        FieldType::Bool => json!(false),
        FieldType::Object => json!({ "temp": 36.8, "none": null }),
        FieldType::Numbers => json!({ "temp": i64::MAX }),
        FieldType::Texts => json!({ "temp": "ok" }),
        FieldType::Array => json!([1, "two", null]),
        FieldType::Any => json!([null, 1.5]),
    }
}

/// A command to device1 with every field of its type.
fn sample(message_type: MessageType) -> Value {
    let mut command = json!({ "messageType": message_type.name(), "productId": "product1", "deviceId": "device1" });
    for (name, field_type) in fields(message_type).filter(|(name, _)| !matches!(*name, "messageId" | "headers")) {
        command[name] = match name {
            "payload" => json!("AAECgA=="),
            "inputs" => json!({ "times": 2 }),
            _ => value(field_type),
        };
    }
    command
}
