//! Commands from Kafka through several replicas that share them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::command::obey;
use crate::support::bridge::wait_for_log;
use crate::support::registry::now_ms;
use crate::support::{Bridge, Device, Kafka, Nats, Registration, Registry, Settings, eventually};

const PATIENCE: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 6;
const DEVICES: usize = 40;
/// Twice as many do not come over the bound on what waits for one device.
const PER_DEVICE: usize = 30;

/// The partitions that a replica has by its log.
fn held_partitions(log: &str) -> BTreeSet<String> {
    let mut held = BTreeSet::new();
    for line in log.lines().filter(|line| line.contains("partitions of the commands")) {
        let Some((_, list)) = line.split_once("partitions=[") else { continue };
        let numbers = list.trim_end_matches(']').split(", ").filter(|number| !number.is_empty()).map(str::to_owned);
        if line.contains("came here") {
            held.extend(numbers);
        } else {
            let left: Vec<String> = numbers.collect();
            held.retain(|number| !left.contains(number));
        }
    }
    held
}

struct Stage {
    kafka: Kafka,
    nats: Option<Nats>,
    registry: Registry,
    devices: Vec<Registration>,
    caller: BaseProducer,
}

impl Stage {
    fn new(nats: Option<Nats>) -> Self {
        let kafka = Kafka::start_with_topics(&["jetlinks.command"], PARTITIONS);
        for topic in ["jetlinks.device", "jetlinks.rejected", "jetlinks.reply"] {
            kafka.create_topic(topic, 1);
        }
        let (registry, devices) = Registry::numbered(DEVICES);
        let caller = kafka.client().set("partitioner", "murmur2_random").create().unwrap();
        Self { kafka, nats, registry, devices, caller }
    }

    fn settings(&self) -> Settings {
        let settings = Settings::kafka(&self.registry, &self.kafka).text("commands.queue", "kafka");
        match &self.nats {
            Some(nats) => settings.toml("nats.servers", &format!("[{:?}]", nats.url())),
            None => settings,
        }
    }

    fn replicas<const N: usize>(&self) -> [Bridge; N] {
        shared_evenly(&self.settings())
    }

    /// Every device on the replica that the function says, by the number of the device.
    fn connect(&self, replica: impl Fn(usize) -> std::net::SocketAddr) -> Vec<Device> {
        let devices = self.devices.iter().enumerate();
        devices.map(|(number, device)| Device::connect(replica(number), device, obey)).collect()
    }

    fn write(&self, key: &str, value: &str, written_ms: i64) {
        let record = BaseRecord::to("jetlinks.command").key(key).payload(value).timestamp(written_ms);
        self.caller.send(record).map_err(|(error, _)| error).unwrap();
    }

    fn read_property(&self, device: &str, message_id: &str) {
        self.write(device, &read_property(device, message_id), now_ms());
    }

    /// Commands for each device, of which none was there before; how many.
    fn load(&self) -> usize {
        self.load_numbered(0)
    }

    /// As many again.
    fn load_more(&self) -> usize {
        self.load_numbered(PER_DEVICE)
    }

    fn load_numbered(&self, first: usize) -> usize {
        for number in first..first + PER_DEVICE {
            for device in &self.devices {
                self.read_property(&device.id, &format!("{}-{number}", device.id));
            }
        }
        self.caller.flush(PATIENCE).unwrap();
        PER_DEVICE * self.devices.len()
    }

    /// All envelopes of a topic.
    fn stored(&self, topic: &str) -> Vec<Value> {
        let output = self.kafka.run_kcat(&["-C", "-t", topic, "-e", "-q"]);
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Outcomes by what they correlate with.
    fn outcomes(&self) -> BTreeMap<String, Vec<Value>> {
        let mut outcomes: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for envelope in self.stored("jetlinks.reply") {
            outcomes.entry(envelope["correlationid"].as_str().unwrap().to_owned()).or_default().push(envelope);
        }
        outcomes
    }

    /// Waits until the group has an answer to every record there is, so that no outcome can follow.
    fn wait_answered(&self) {
        let consumer: BaseConsumer = self.kafka.client().set("group.id", "jetlinks-bridge").create().unwrap();
        let ends: BTreeMap<i32, i64> = (0..PARTITIONS)
            .map(|partition| (partition, consumer.fetch_watermarks("jetlinks.command", partition, PATIENCE).unwrap().1))
            .collect();
        eventually("every command is answered and committed", PATIENCE, || {
            let mut asked = TopicPartitionList::new();
            asked.add_partition_range("jetlinks.command", 0, PARTITIONS - 1);
            let committed = consumer.committed_offsets(asked, PATIENCE).unwrap();
            let is_answered = |(partition, end): (&i32, &i64)| {
                let element = committed.find_partition("jetlinks.command", *partition).unwrap();
                *end == 0 || element.offset() == Offset::Offset(*end)
            };
            ends.iter().all(is_answered).then_some(())
        });
    }
}

/// Bridges that share the partitions evenly, so that none moves any more: one that moves is read again from what was
/// committed.
fn shared_evenly<const N: usize>(settings: &Settings) -> [Bridge; N] {
    let replicas = std::array::from_fn(|_| Bridge::start(settings));
    eventually("the replicas share the partitions evenly", PATIENCE, || {
        let has_its_share = |replica: &Bridge| N * held_partitions(&replica.log()).len() == PARTITIONS as usize;
        replicas.iter().all(has_its_share).then_some(())
    });
    replicas
}

fn read_property(device: &str, message_id: &str) -> String {
    json!({
        "messageType": "READ_PROPERTY", "productId": "product1", "deviceId": device, "messageId": message_id,
        "properties": ["sn"],
    })
    .to_string()
}

fn assert_reply(outcome: &Value) {
    assert_eq!((&outcome["origin"], &outcome["data"]["success"]), (&json!("device"), &json!(true)), "{outcome}");
}

#[test]
fn each_command_gets_exactly_one_outcome_whichever_replica_reads_it() {
    let stage = Stage::new(Some(Nats::start()));
    let replicas: [Bridge; 3] = stage.replicas();
    let _devices = stage.connect(|number| replicas[number % 2].mqtt());
    let total = stage.load();
    stage.read_property("device99", "offline");
    stage.write("device1", &read_property("device1", "stale"), now_ms() - 61_000);
    stage.write("device1", "no command", now_ms());
    stage.caller.flush(PATIENCE).unwrap();
    stage.wait_answered();

    let mut outcomes = stage.outcomes();
    for (message_id, code) in [("offline", "CLIENT_OFFLINE"), ("stale", "TIME_OUT")] {
        let failures = outcomes.remove(message_id).unwrap();
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert_eq!((&failures[0]["origin"], &failures[0]["data"]["code"]), (&json!("bridge"), &json!(code)));
    }
    assert_eq!(outcomes.len(), total);
    for outcomes in outcomes.values() {
        assert_eq!(outcomes.len(), 1, "{outcomes:?}");
        assert_reply(&outcomes[0]);
    }
    let rejected = stage.stored("jetlinks.rejected");
    assert_eq!(rejected.len(), 1, "{rejected:?}");
    assert_eq!(rejected[0]["type"], "org.jetlinks.bridge.command.failed");
    // A reply is a device message like every other.
    let replies = stage.stored("jetlinks.device");
    let replies = replies.iter().filter(|envelope| envelope["type"] == "org.jetlinks.device.properties.read.reply");
    assert_eq!(replies.count(), total);
}

#[test]
fn a_crash_of_the_replica_that_has_read_commands_leaves_none_without_an_outcome() {
    let stage = Stage::new(Some(Nats::start()));
    let mut replicas: [Bridge; 3] = stage.replicas();
    let _devices = stage.connect(|number| replicas[number % 2].mqtt());
    let total = stage.load();
    // Everything is written and little of it answered yet.
    replicas[2].process().kill9();
    let total = total + stage.load_more();
    stage.wait_answered();

    let outcomes = stage.outcomes();
    assert_eq!(outcomes.len(), total);
    for (message_id, outcomes) in &outcomes {
        let is_reply = |outcome: &&Value| outcome["origin"] == "device" && outcome["data"]["success"] == true;
        assert!(outcomes.iter().any(|outcome| is_reply(&outcome)), "{message_id}: {outcomes:?}");
    }
}

#[test]
fn a_replica_that_ends_in_good_order_leaves_no_command_twice_and_none_without_an_outcome() {
    let stage = Stage::new(Some(Nats::start()));
    let mut replicas: [Bridge; 2] = stage.replicas();
    let _devices = stage.connect(|_| replicas[0].mqtt());
    let total = stage.load();
    replicas[1].signal(libc::SIGTERM);
    assert_eq!(replicas[1].exit_code(), 0, "{}", replicas[1].log());
    let total = total + stage.load_more();
    stage.wait_answered();

    let outcomes = stage.outcomes();
    assert_eq!(outcomes.len(), total);
    for outcomes in outcomes.values() {
        assert_eq!(outcomes.len(), 1, "{outcomes:?}");
        assert_reply(&outcomes[0]);
    }
}

#[test]
fn without_nats_the_replica_that_holds_the_device_answers_and_nobody_else() {
    let stage = Stage::new(None);
    let replicas = [Bridge::start(&stage.settings()), Bridge::start(&stage.settings())];
    for replica in &replicas {
        wait_for_log(replica, &["commands are read from the end of their topic"]);
    }
    let _devices = stage.connect(|number| replicas[number % 2].mqtt());
    stage.read_property("device99", "offline");
    let total = stage.load();
    eventually("every device has answered", PATIENCE, || (stage.outcomes().len() >= total).then_some(()));
    let outcomes = stage.outcomes();
    assert_eq!(outcomes.len(), total, "nobody answers for a device that nobody holds");
    for outcomes in outcomes.values() {
        assert_eq!(outcomes.len(), 1, "{outcomes:?}");
        assert_reply(&outcomes[0]);
    }
}

#[test]
fn readiness_shows_whether_kafka_and_nats_let_commands_come() {
    let mut stage = Stage::new(Some(Nats::start()));
    let [bridge] = &stage.replicas();
    let commands_are = |state: &str| {
        eventually(&format!("commands are {state}"), PATIENCE, || {
            (bridge.readiness().1["commands"] == state).then_some(())
        });
    };
    commands_are("ok");
    stage.kafka.kill9();
    commands_are("away");
    stage.kafka.restart();
    commands_are("ok");
    stage.nats.as_mut().expect("it was started").kill9();
    commands_are("away");
    let waiting = stage.load() as f64;
    let lag = |wanted: f64| {
        eventually(&format!("{wanted} commands wait"), PATIENCE, || {
            (bridge.metric("jetlinks_bridge_kafka_command_lag_records", &[]) == wanted).then_some(())
        });
    };
    lag(waiting);
    let ages = || bridge.metric("jetlinks_bridge_kafka_command_age_seconds_count", &[]);
    assert_eq!(ages(), 0.0, "nothing is carried out meanwhile");
    let asleep = bridge.metric("jetlinks_bridge_kafka_command_age_seconds_sum", &[]);
    stage.nats.as_mut().expect("it was started").restart();
    commands_are("ok");
    lag(0.0);
    assert_eq!(ages(), waiting);
    let grown = bridge.metric("jetlinks_bridge_kafka_command_age_seconds_sum", &[]) - asleep;
    assert!(grown > waiting * 0.1, "each is older than the outage: {grown} s");
    stage.nats = None;
    commands_are("away");
    let alone = Bridge::start(&stage.settings());
    eventually("commands come without NATS where none is configured", PATIENCE, || {
        (alone.readiness().1["commands"] == "ok").then_some(())
    });
}

#[test]
fn a_replica_with_an_empty_instance_id_leaves_its_partitions_to_others_as_soon_as_it_ends() {
    let stage = Stage::new(Some(Nats::start()));
    let dynamic = stage.settings().text(r#"kafka.properties."group.instance.id""#, "");
    // A partition of a member that does not leave stands still for longer than the test waits.
    let dynamic = dynamic.toml(r#"kafka.properties."session.timeout.ms""#, "300000");
    // Questions to the brokers wait for a fetch on the same connection: one is under way nearly all the time.
    let dynamic = dynamic.toml(r#"kafka.properties."fetch.wait.max.ms""#, "1500");
    let mut replicas: [Bridge; 2] = shared_evenly(&dynamic);
    let _devices = stage.connect(|_| replicas[0].mqtt());
    let total = stage.load();
    stage.wait_answered();
    replicas[1].signal(libc::SIGTERM);
    assert_eq!(replicas[1].exit_code(), 0, "{}", replicas[1].log());
    let total = total + stage.load_more();
    stage.wait_answered();
    let outcomes = stage.outcomes();
    assert_eq!(outcomes.len(), total);
    assert!(outcomes.values().all(|outcomes| outcomes.len() == 1));
}
