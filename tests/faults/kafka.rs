//! Faults of three brokers of Kafka and of their topic.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::driver::{Fault, Servers, Stage, run};
use crate::evidence::Stored;
use crate::support::{KafkaThree, Nats, Registry, Settings, eventually};

const TOPIC: &str = "jetlinks.device";

/// Partitions of the topic.
const PARTITIONS: i32 = 4;

const PATIENCE: Duration = Duration::from_secs(30);

/// Of three copies two are enough; the time of a record is that of the broker.
const SETTINGS: [(&str, &str); 2] = [("min.insync.replicas", "2"), ("message.timestamp.type", "LogAppendTime")];

/// Three brokers for messages, and a NATS server for commands, to which nothing happens.
pub(crate) struct Three {
    kafka: KafkaThree,
    nats: Nats,
    concerned: usize,
}

impl Servers for Three {
    fn start() -> Self {
        let (kafka, nats) = (KafkaThree::start(), Nats::start());
        for topic in [TOPIC, "jetlinks.rejected"] {
            kafka.create_topic(topic, PARTITIONS, &SETTINGS);
        }
        Self { kafka, nats, concerned: 0 }
    }

    fn settings(&self, registry: &Registry) -> Settings {
        Settings::nats(registry, &self.nats).text("uplink.queue", "kafka").text("kafka.brokers", &self.kafka.brokers())
    }

    fn callers(&self) -> Vec<String> {
        vec![self.nats.url()]
    }

    fn read(&self) -> Vec<Stored> {
        let consumer: BaseConsumer =
            self.kafka.client().set("group.id", "faults").create().expect("the client's settings are right");
        let metadata = consumer.fetch_metadata(Some(TOPIC), PATIENCE).expect("the brokers answer");
        let partitions = metadata.topics()[0].partitions().iter().map(|partition| partition.id());
        let mut list = TopicPartitionList::new();
        let mut left = 0;
        for partition in partitions {
            let (low, high) = consumer.fetch_watermarks(TOPIC, partition, PATIENCE).expect("the brokers answer");
            left += high - low;
            list.add_partition_offset(TOPIC, partition, Offset::Beginning).expect("the partition is new to the list");
        }
        consumer.assign(&list).expect("the partitions are there");
        let mut stored = Vec::new();
        while left > 0 {
            let record = consumer.poll(PATIENCE).expect("there are records left").expect("the brokers answer");
            let at = i128::from(record.timestamp().to_millis().expect("records have a time")) * 1_000_000;
            stored.push(Stored::new(at, String::from_utf8_lossy(record.payload().unwrap_or_default()).into_owned()));
            left -= 1;
        }
        // What a device says may change its partition; within one the times only grow.
        stored.sort_by_key(|stored| stored.at);
        stored
    }
}

impl Three {
    /// Remembers the broker that leads.
    fn leader(&mut self) -> usize {
        self.concerned = self.kafka.leader(TOPIC);
        self.concerned
    }

    fn set(&self, name: &str, value: &str) {
        let settings: Vec<(&str, &str)> = SETTINGS.into_iter().filter(|(set, _)| *set != name).collect();
        self.kafka.member(0).set_topic_to(TOPIC, &[&settings[..], &[(name, value)]].concat());
    }

    fn restart_concerned(&mut self) {
        self.kafka.member_mut(self.concerned).restart();
    }
}

fn nothing(_: &mut Stage<Three>) {}

/// A fault that lasts so long; what is promised beside the rest is that every caller gets an outcome.
fn trouble(
    name: &'static str,
    seconds: u64,
    inject: fn(&mut Stage<Three>),
    heal: fn(&mut Stage<Three>),
    sessions_stay: bool,
) {
    let lasting = Duration::from_secs(seconds);
    run(&Fault { name, lasting, inject, heal, sessions_stay, all_answered: true });
}

#[test]
fn a_crash_of_the_leader_of_a_partition() {
    let inject = |stage: &mut Stage<Three>| {
        let leader = stage.servers.leader();
        stage.servers.kafka.member_mut(leader).kill9();
    };
    let heal = |stage: &mut Stage<Three>| stage.servers.restart_concerned();
    trouble("Kafka: the leader of a partition is killed, and started again after 5 s", 5, inject, heal, false);
}

#[test]
fn the_leader_of_a_partition_stands_still() {
    let inject = |stage: &mut Stage<Three>| {
        let leader = stage.servers.leader();
        stage.servers.kafka.member(leader).process().signal(libc::SIGSTOP);
    };
    let heal = |stage: &mut Stage<Three>| {
        stage.servers.kafka.member(stage.servers.concerned).process().signal(libc::SIGCONT);
    };
    trouble("Kafka: the leader of a partition stands still for 20 s (SIGSTOP)", 20, inject, heal, false);
}

#[test]
fn fewer_copies_are_in_sync_than_the_topic_wants() {
    let inject = |stage: &mut Stage<Three>| {
        stage.servers.set("min.insync.replicas", "3");
        let leader = stage.servers.leader();
        stage.servers.kafka.member_mut(leader).kill9();
    };
    let heal = |stage: &mut Stage<Three>| {
        stage.servers.restart_concerned();
        stage.servers.kafka.wait_in_sync(TOPIC);
    };
    trouble("Kafka: fewer copies in sync than min.insync.replicas for 15 s and more", 15, inject, heal, false);
}

#[test]
fn the_topic_is_deleted_and_made_again() {
    let inject = |stage: &mut Stage<Three>| stage.keep_and(|servers| servers.kafka.delete_topic(TOPIC));
    let heal = |stage: &mut Stage<Three>| stage.servers.kafka.create_topic(TOPIC, PARTITIONS, &SETTINGS);
    trouble("Kafka: the topic is deleted, and made again after 10 s", 10, inject, heal, false);
}

#[test]
fn the_topic_gets_more_partitions() {
    let inject = |stage: &mut Stage<Three>| stage.servers.kafka.add_partitions(TOPIC, 8);
    trouble("Kafka: the topic gets 8 partitions for 4", 10, inject, nothing, true);
}

#[test]
fn the_topic_takes_smaller_batches() {
    let inject = |stage: &mut Stage<Three>| stage.servers.set("max.message.bytes", "4000");
    let heal = |stage: &mut Stage<Three>| stage.servers.set("max.message.bytes", "1048588");
    trouble("Kafka: the topic takes batches of 4,000 B alone for 15 s", 15, inject, heal, true);
}

/// The same, with a bridge that authenticates; it may do what no rule is about.
struct Secured(Three);

impl Servers for Secured {
    fn start() -> Self {
        Self(Three::start())
    }

    fn settings(&self, registry: &Registry) -> Settings {
        let settings = self.0.settings(registry).text("kafka.brokers", &self.0.kafka.sasl());
        settings
            .text("kafka.properties.security.protocol", "SASL_PLAINTEXT")
            .text("kafka.properties.sasl.mechanism", "PLAIN")
            .text("kafka.properties.sasl.username", "bridge")
            .text("kafka.properties.sasl.password", "secret")
    }

    fn callers(&self) -> Vec<String> {
        self.0.callers()
    }

    fn read(&self) -> Vec<Stored> {
        self.0.read()
    }
}

#[test]
fn the_right_to_write_is_taken() {
    const DENY: [&str; 6] = ["--deny-principal", "User:bridge", "--operation", "Write", "--topic", TOPIC];
    run(&Fault::<Secured> {
        name: "Kafka: the right to write is taken until the queue is away and 10 s more",
        lasting: Duration::from_secs(10),
        inject: |stage| {
            let broker = stage.servers.0.kafka.member(0);
            broker.run_acls(&["--add", "--allow-principal", "User:bridge", "--operation", "All", "--topic", TOPIC]);
            broker.run_acls(&[&["--add"], &DENY[..]].concat());
            eventually("the right is missed", PATIENCE, || {
                (stage.bridge.readiness().1["queue"] == "away").then_some(())
            });
        },
        heal: |stage| stage.servers.0.kafka.member(0).run_acls(&[&["--remove", "--force"], &DENY[..]].concat()),
        sessions_stay: false,
        all_answered: true,
    });
}

#[test]
fn a_rolling_restart_of_the_brokers() {
    let inject = |stage: &mut Stage<Three>| {
        for number in 0..3 {
            stage.servers.kafka.member_mut(number).stop();
            stage.servers.kafka.member_mut(number).restart();
            stage.servers.kafka.wait_in_sync(TOPIC);
            stage.wait_stored(800.0);
        }
    };
    trouble("Kafka: all three brokers are restarted in turn", 0, inject, nothing, false);
}
