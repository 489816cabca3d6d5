//! Three replicas behind a balancer that share commands from Kafka, restarted one by one under load.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

use crate::fleet::Fleet;
use crate::support::bridge::wait_for_log;
use crate::support::registry::now_ms;
use crate::support::{Kafka, Load, Nats, Registration, Registry, Settings, eventually};

const DEVICES: usize = 300;

/// Reports a second of each device.
const RATE: f64 = 1.0;

const PATIENCE: Duration = Duration::from_secs(60);

struct Caller {
    kafka: Kafka,
    producer: BaseProducer,
    asked: Mutex<usize>,
}

impl Caller {
    fn ask(&self, device: &Registration) {
        let mut asked = self.asked.lock().unwrap();
        let command = json!({
            "messageType": "READ_PROPERTY", "productId": device.product, "deviceId": device.id,
            "messageId": format!("c{asked}"), "properties": ["sn"],
        })
        .to_string();
        let record = BaseRecord::to("jetlinks.command").key(&device.id).payload(&command).timestamp(now_ms());
        self.producer.send(record).map_err(|(error, _)| error).unwrap();
        self.producer.poll(Duration::ZERO);
        *asked += 1;
    }

    /// Outcomes by what they correlate with, once there is one of every command.
    fn outcomes(&self) -> BTreeMap<String, Vec<Value>> {
        self.producer.flush(PATIENCE).unwrap();
        let asked = *self.asked.lock().unwrap();
        eventually("every command has an outcome", PATIENCE, || {
            let output = self.kafka.run_kcat(&["-C", "-t", "jetlinks.reply", "-e", "-q"]);
            let mut outcomes: BTreeMap<String, Vec<Value>> = BTreeMap::new();
            for line in String::from_utf8(output.stdout).unwrap().lines() {
                let envelope: Value = serde_json::from_str(line).unwrap();
                outcomes.entry(envelope["correlationid"].as_str().unwrap().to_owned()).or_default().push(envelope);
            }
            (outcomes.len() == asked).then_some(outcomes)
        })
    }
}

#[test]
fn a_rolling_restart_costs_no_command_from_kafka_its_outcome_and_no_message() {
    let kafka = Kafka::start_with_topics(&["jetlinks.command"], 6);
    for (topic, partitions) in [("jetlinks.device", 3), ("jetlinks.rejected", 1), ("jetlinks.reply", 1)] {
        kafka.create_topic(topic, partitions);
    }
    let nats = Nats::start();
    let (registry, devices) = Registry::numbered(DEVICES);
    let settings = Settings::kafka(&registry, &kafka)
        .text("commands.queue", "kafka")
        .toml("nats.servers", &format!("[{:?}]", nats.url()))
        .toml("drain.rate", "100");
    let mut fleet = Fleet::start(3, &settings);
    for replica in fleet.running() {
        wait_for_log(replica, &["partitions of the commands came here"]);
    }
    let mut load = Load::start(fleet.address(), &registry, DEVICES, RATE);
    fleet.wait_for_sessions(DEVICES);
    let producer = kafka.client().set("partitioner", "murmur2_random").create().unwrap();
    let caller = Caller { kafka, producer, asked: Mutex::new(0) };

    let begin = Instant::now();
    devices.iter().for_each(|device| caller.ask(device));
    let outcomes = caller.outcomes();
    println!("{DEVICES} commands at once: all answered after {:?}", begin.elapsed());
    for outcomes in outcomes.values() {
        assert_eq!(outcomes.len(), 1, "{outcomes:?}");
        assert_eq!(outcomes[0]["origin"], "device", "{outcomes:?}");
    }

    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for device in devices.iter().cycle() {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                caller.ask(device);
                // The next one once Kafka has this one.
                caller.producer.flush(PATIENCE).unwrap();
            }
        });
        for number in 0..3 {
            let begin = Instant::now();
            let mut replica = fleet.take(number);
            replica.signal(libc::SIGTERM);
            assert_eq!(replica.exit_code(), 0, "{}", replica.log());
            fleet.wait_for_sessions(DEVICES);
            println!("replica {number}: all devices back after {:?}", begin.elapsed());
            fleet.start_again(number);
        }
        is_over.store(true, Ordering::Relaxed);
    });

    let outcomes = caller.outcomes();
    let (mut codes, mut doubled) = (BTreeMap::<String, usize>::new(), 0);
    for outcomes in outcomes.values() {
        let first = &outcomes[0];
        let code = if first["origin"] == "device" { "reply" } else { first["data"]["code"].as_str().unwrap() };
        *codes.entry(code.to_owned()).or_default() += 1;
        doubled += usize::from(outcomes.len() > 1);
    }
    println!("{} commands in all: {codes:?}, {doubled} with more than one outcome", outcomes.len());
    assert_eq!(doubled, 0, "each replica ended in good order");
    let allowed = ["reply", "CLIENT_OFFLINE", "CONNECTION_LOST"];
    assert!(codes.keys().all(|code| allowed.contains(&code.as_str())), "{codes:?}");
    let summary = load.finish();
    assert_eq!(summary["unacknowledged"], 0, "{summary}");
    println!("ledger: {}", load.verify(&fleet.running().next().unwrap().config()));
}
