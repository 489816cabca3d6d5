//! Faults of three brokers of Kafka and of their topic.

use std::time::Duration;

use crate::driver::{Fault, Servers, Stage, run};
use crate::evidence::Stored;
use crate::kafka_cluster::{PARTITIONS, PATIENCE, SETTINGS, Three};
use crate::support::{Registry, Settings, eventually};

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
        stage.servers.concern_leader();
        stage.servers.kill_concerned();
    };
    let heal = |stage: &mut Stage<Three>| stage.servers.restart_concerned();
    trouble("Kafka: the leader of a partition is killed, and started again after 5 s", 5, inject, heal, false);
}

#[test]
fn the_leader_of_a_partition_stands_still() {
    let inject = |stage: &mut Stage<Three>| {
        stage.servers.concern_leader();
        stage.servers.signal_concerned(libc::SIGSTOP);
    };
    let heal = |stage: &mut Stage<Three>| stage.servers.signal_concerned(libc::SIGCONT);
    trouble("Kafka: the leader of a partition stands still for 20 s (SIGSTOP)", 20, inject, heal, false);
}

#[test]
fn a_crash_of_the_active_controller() {
    let inject = |stage: &mut Stage<Three>| {
        stage.servers.concern_controller();
        stage.servers.kill_concerned();
        stage.servers.wait_for_another_controller();
    };
    let heal = |stage: &mut Stage<Three>| stage.servers.restart_concerned();
    let name = "Kafka: the active controller is killed, and started again 5 s after another has taken over";
    trouble(name, 5, inject, heal, false);
}

#[test]
fn the_active_controller_stands_still() {
    let inject = |stage: &mut Stage<Three>| {
        stage.servers.concern_controller();
        stage.servers.signal_concerned(libc::SIGSTOP);
        stage.servers.wait_for_another_controller();
    };
    let heal = |stage: &mut Stage<Three>| stage.servers.signal_concerned(libc::SIGCONT);
    let name = "Kafka: the active controller stands still (SIGSTOP) until another has taken over and 10 s more";
    trouble(name, 10, inject, heal, false);
}

#[test]
fn the_disk_of_a_broker_is_full() {
    let inject = |stage: &mut Stage<Three>| {
        stage.servers.concern_leader();
        stage.servers.fill_disk_of_concerned();
    };
    let heal = |stage: &mut Stage<Three>| stage.servers.restart_concerned();
    let name = "Kafka: the leader of a partition cannot write files, ends by that, and is started again after 5 s";
    trouble(name, 5, inject, heal, false);
}

#[test]
fn fewer_copies_are_in_sync_than_the_topic_wants() {
    let inject = |stage: &mut Stage<Three>| {
        stage.servers.set("min.insync.replicas", "3");
        stage.servers.concern_leader();
        stage.servers.kill_concerned();
    };
    let heal = |stage: &mut Stage<Three>| {
        stage.servers.restart_concerned();
        stage.servers.kafka.get().wait_whole();
    };
    trouble("Kafka: fewer copies in sync than min.insync.replicas for 15 s and more", 15, inject, heal, false);
}

#[test]
fn the_topic_is_deleted_and_made_again() {
    let inject =
        |stage: &mut Stage<Three>| stage.keep_and(|servers| servers.kafka.get().delete_topics(&[&servers.topic]));
    let heal = |stage: &mut Stage<Three>| {
        stage.servers.kafka.get().create_topic(&stage.servers.topic, PARTITIONS, &SETTINGS);
    };
    trouble("Kafka: the topic is deleted, and made again after 10 s", 10, inject, heal, false);
}

#[test]
fn the_topic_gets_more_partitions() {
    let inject = |stage: &mut Stage<Three>| stage.servers.kafka.get().add_partitions(&stage.servers.topic, 8);
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
        let settings = self.0.settings(registry).text("kafka.brokers", &self.0.kafka.get().sasl());
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

impl Secured {
    /// Changes who may do what with the topic.
    fn run_acls(&self, arguments: &[&str]) {
        let Three { kafka, topic, .. } = &self.0;
        kafka.get().member(0).run_acls(&[arguments, &["--topic", topic]].concat());
    }
}

#[test]
fn the_right_to_write_is_taken() {
    const DENIED: [&str; 4] = ["--deny-principal", "User:bridge", "--operation", "Write"];
    const ALLOWED: [&str; 4] = ["--allow-principal", "User:bridge", "--operation", "All"];
    run(&Fault::<Secured> {
        name: "Kafka: the right to write is taken until the queue is away and 10 s more",
        lasting: Duration::from_secs(10),
        inject: |stage| {
            stage.servers.run_acls(&[&["--add"], &ALLOWED[..]].concat());
            stage.servers.run_acls(&[&["--add"], &DENIED[..]].concat());
            eventually("the right is missed", PATIENCE, || {
                (stage.bridge.readiness().1["queue"] == "away").then_some(())
            });
        },
        heal: |stage| stage.servers.run_acls(&[&["--remove", "--force"], &DENIED[..]].concat()),
        sessions_stay: false,
        all_answered: true,
    });
}

#[test]
fn a_rolling_restart_of_the_brokers() {
    let inject = |stage: &mut Stage<Three>| {
        for number in 0..3 {
            stage.servers.kafka.get_mut().member_mut(number).stop();
            stage.servers.kafka.get_mut().member_mut(number).restart();
            stage.servers.kafka.get().wait_whole();
            stage.wait_stored(800.0);
        }
    };
    trouble("Kafka: all three brokers are restarted in turn", 0, inject, nothing, false);
}
