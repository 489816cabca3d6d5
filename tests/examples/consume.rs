//! Consumers: each envelope once, over copies, a killed broker and their own restart.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;

use crate::program::{Language, PATIENCE, Program};
use crate::support::stored::{Stored, read_stream, read_topic};
use crate::support::wire::Incoming;
use crate::support::{Bridge, Kafka, Nats, Registration, Registry, Settings, Wire, eventually, packet};

const TOPIC: &str = "jetlinks.device";
const DEVICES: usize = 3;

/// Messages of each device in each part of the test.
const MESSAGES: u16 = 20;

/// Envelopes that are stored once more, as the bridge does after an outage.
const COPIES: usize = 10;

/// Devices that are connected and count their messages.
struct Devices {
    wires: Vec<(Registration, Wire)>,
    sent: u16,
}

impl Devices {
    fn connect(bridge: &Bridge, devices: Vec<Registration>) -> Self {
        let connect = |device: Registration| {
            let wire = Wire::connect(bridge.mqtt(), &device);
            (device, wire)
        };
        Self { wires: devices.into_iter().map(connect).collect(), sent: 0 }
    }

    /// Sends the next messages and waits for nothing.
    fn send(&mut self) {
        for number in self.sent + 1..=self.sent + MESSAGES {
            for (device, wire) in &mut self.wires {
                let body = format!(r#"{{"messageId":"{number}","properties":{{"number":{number}}}}}"#);
                wire.publish(&device.topic("properties/report"), &body, 1, number);
            }
        }
        self.sent += MESSAGES;
    }

    /// Waits for the acknowledgements of what was sent last.
    fn wait_acknowledged(&mut self) {
        for (_, wire) in &mut self.wires {
            for number in self.sent - MESSAGES + 1..=self.sent {
                let Some(Incoming::Packet(packet)) = wire.next_within(PATIENCE) else { panic!("no PUBACK {number}") };
                assert_eq!(packet, packet::Packet::answer(packet::PUBACK, number));
            }
        }
    }

    fn send_acknowledged(&mut self) {
        self.send();
        self.wait_acknowledged();
    }

    /// The messages that were acknowledged: device and number.
    fn acknowledged(&self) -> BTreeSet<(String, String)> {
        let of =
            |device: &Registration| (1..=self.sent).map(|number| (device.id.clone(), number.to_string())).collect();
        self.wires.iter().flat_map(|(device, _)| -> Vec<_> { of(device) }).collect()
    }
}

fn id(stored: &Stored) -> String {
    stored.envelope["id"].as_str().unwrap().to_owned()
}

/// The ids of envelopes about devices.
fn ids(stored: &[Stored]) -> BTreeSet<String> {
    stored.iter().filter(|stored| stored.envelope["deviceid"].is_string()).map(id).collect()
}

/// How often each id was printed, heartbeats left out.
fn printed<'a>(lines: impl IntoIterator<Item = &'a String>) -> BTreeMap<String, usize> {
    let mut printed = BTreeMap::new();
    for line in lines.into_iter().filter(|line| !line.contains(" bridge.replica ")) {
        *printed.entry(line.split(' ').next().unwrap().to_owned()).or_default() += 1;
    }
    printed
}

/// The reports that were printed: device and number.
fn reports<'a>(lines: impl IntoIterator<Item = &'a String>) -> BTreeSet<(String, String)> {
    let report = |line: &String| {
        let mut words = line.splitn(4, ' ').skip(1);
        let (device, kind, data) = (words.next()?, words.next()?, words.next()?);
        let data: Value = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {line}"));
        (kind == "device.properties.report")
            .then(|| (device.to_owned(), data["messageId"].as_str().unwrap().to_owned()))
    };
    lines.into_iter().filter_map(report).collect()
}

fn wait_printed(program: &mut Program, before: &[String], expected: &BTreeSet<String>) {
    program.wait_for("all that is stored", |lines| {
        let printed = printed(before.iter().chain(lines));
        expected.iter().all(|id| printed.contains_key(id))
    });
}

fn assert_each_once(language: Language, lines: &[String], expected: &BTreeSet<String>, devices: &Devices) {
    let printed = printed(lines);
    let wrong: Vec<_> = printed.iter().filter(|(id, count)| **count != 1 || !expected.contains(*id)).collect();
    assert!(wrong.is_empty(), "{language:?} printed, and how often: {wrong:?}");
    assert_eq!(printed.len(), expected.len(), "{language:?}");
    assert_eq!(reports(lines), devices.acknowledged(), "{language:?}");
}

#[test]
fn consumers_of_kafka_take_each_envelope_once_over_a_killed_broker_and_their_own_restart() {
    let mut kafka = Kafka::start_with_topics(&[TOPIC, "jetlinks.rejected"], 3);
    let (registry, devices) = Registry::numbered(DEVICES);
    let bridge = Bridge::start(&Settings::kafka(&registry, &kafka).text("limits.ack_timeout", "60s"));
    let mut devices = Devices::connect(&bridge, devices);
    devices.send_acknowledged();
    let brokers = kafka.brokers();
    let start = |language: Language| {
        let group = format!("{language:?}");
        Program::start(language, "consume_kafka", &[], &[("KAFKA_BROKERS", &brokers), ("GROUP", &group)])
    };
    let mut programs = Language::ALL.map(start);

    let copies: Vec<Stored> = read_topic(&kafka.client(), TOPIC).into_iter().take(COPIES).collect();
    let producer: BaseProducer = kafka.client().set("acks", "all").create().unwrap();
    for copy in &copies {
        let key = copy.envelope["deviceid"].as_str().or(copy.envelope["replicaid"].as_str()).unwrap();
        producer.send(BaseRecord::to(TOPIC).key(key).payload(&copy.text)).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    let expected = ids(&read_topic(&kafka.client(), TOPIC));
    programs.iter_mut().for_each(|program| wait_printed(program, &[], &expected));

    devices.send();
    kafka.kill9();
    kafka.restart();
    devices.wait_acknowledged();
    devices.send_acknowledged();
    let expected = ids(&read_topic(&kafka.client(), TOPIC));
    programs.iter_mut().for_each(|program| wait_printed(program, &[], &expected));

    let before = programs.map(Program::terminate);
    devices.send_acknowledged();
    let mut programs = Language::ALL.map(start);
    let expected = ids(&read_topic(&kafka.client(), TOPIC));
    programs.iter_mut().zip(&before).for_each(|(program, before)| wait_printed(program, before, &expected));
    for (program, before) in programs.into_iter().zip(before) {
        let language = program.language;
        assert_each_once(language, &[before, program.terminate()].concat(), &expected, &devices);
    }
}

#[test]
fn consumers_of_jetstream_take_each_envelope_once_over_a_killed_server_and_acknowledge_all() {
    let mut nats = Nats::start();
    let (registry, devices) = Registry::numbered(DEVICES);
    let bridge = Bridge::start(&Settings::nats(&registry, &nats).text("limits.ack_timeout", "60s"));
    let mut devices = Devices::connect(&bridge, devices);
    devices.send_acknowledged();
    let url = nats.url();
    let start = |language: Language| {
        let durable = format!("{language:?}");
        Program::start(language, "consume_jetstream", &[], &[("NATS_URL", &url), ("DURABLE", &durable)])
    };
    let mut programs = Language::ALL.map(start);
    let expected = ids(&read_stream(std::slice::from_ref(&url)));
    programs.iter_mut().for_each(|program| wait_printed(program, &[], &expected));
    for copy in
        read_stream(std::slice::from_ref(&url)).iter().filter(|it| !ids(&[(*it).clone()]).is_empty()).take(COPIES)
    {
        let published = nats.run_cli(&["pub", "jetlinks.device.product1.device1.properties.report", &copy.text]);
        assert!(published.status.success(), "{published:?}");
    }

    devices.send();
    nats.kill9();
    nats.restart();
    devices.wait_acknowledged();
    devices.send_acknowledged();
    let expected = ids(&read_stream(std::slice::from_ref(&url)));
    for program in &mut programs {
        wait_printed(program, &[], &expected);
        // Acknowledgements that were lost with the server make it deliver again, after half a minute.
        eventually("all is acknowledged", PATIENCE, || is_acknowledged(&nats, program.language));
    }
    for program in programs {
        assert_each_once(program.language, &program.terminate(), &expected, &devices);
    }
}

fn is_acknowledged(nats: &Nats, language: Language) -> Option<()> {
    let output = nats.run_cli(&["consumer", "info", "JETLINKS_DEVICE", &format!("{language:?}"), "--json"]);
    let info: Value = serde_json::from_slice(&output.stdout).ok()?;
    (info["num_pending"] == 0 && info["num_ack_pending"] == 0).then_some(())
}
