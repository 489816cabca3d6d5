//! Faults of the network between the bridge and three brokers of Kafka.

use std::time::Duration;

use crate::driver::{Fault, Servers, Stage, run};
use crate::evidence::Stored;
use crate::kafka_cluster::Three;
use crate::support::link::End;
use crate::support::{Link, Registry, Settings};

/// Three brokers that the bridge reaches by links alone; they reach each other, and the test reaches them, without.
struct Linked(Three);

impl Servers for Linked {
    fn start() -> Self {
        Self(Three::start())
    }

    fn settings(&self, registry: &Registry) -> Settings {
        self.0.settings(registry).text("kafka.brokers", &self.0.kafka.get().linked())
    }

    fn callers(&self) -> Vec<String> {
        self.0.callers()
    }

    fn read(&self) -> Vec<Stored> {
        self.0.read()
    }
}

fn each(stage: &Stage<Linked>, change: impl Fn(&Link)) {
    stage.servers.0.kafka.get().links().iter().for_each(change);
}

/// A fault that `inject` begins and healed links end; what is promised beside the rest is that every caller gets an
/// outcome, since commands come over NATS.
fn trouble(name: &'static str, seconds: u64, inject: fn(&mut Stage<Linked>), sessions_stay: bool) {
    let heal: fn(&mut Stage<Linked>) = |stage| {
        each(stage, |link| {
            link.limit(0);
            link.delay(Duration::ZERO);
            link.heal();
        });
    };
    let lasting = Duration::from_secs(seconds);
    run(&Fault { name, lasting, inject, heal, sessions_stay, all_answered: true });
}

#[test]
fn nothing_comes_through_for_8_s() {
    let inject = |stage: &mut Stage<Linked>| each(stage, Link::silence);
    trouble("network to Kafka: nothing comes through for 8 s, then all of it", 8, inject, false);
}

#[test]
fn nothing_comes_through_for_15_s() {
    let inject = |stage: &mut Stage<Linked>| each(stage, Link::silence);
    trouble("network to Kafka: nothing comes through for 15 s, then all of it", 15, inject, false);
}

#[test]
fn nothing_comes_through_for_60_s() {
    let inject = |stage: &mut Stage<Linked>| each(stage, Link::silence);
    trouble("network to Kafka: nothing comes through for 60 s, then all of it", 60, inject, false);
}

#[test]
fn the_bridge_is_heard_and_hears_nothing() {
    let inject = |stage: &mut Stage<Linked>| each(stage, |link| link.silence_to(End::Near));
    trouble("network to Kafka: nothing comes through to the bridge for 9 s", 9, inject, false);
}

#[test]
fn the_bridge_hears_and_is_not_heard() {
    let inject = |stage: &mut Stage<Linked>| each(stage, |link| link.silence_to(End::Far));
    trouble("network to Kafka: nothing comes through to the brokers for 9 s", 9, inject, false);
}

#[test]
fn the_network_is_late() {
    let inject = |stage: &mut Stage<Linked>| each(stage, |link| link.delay(Duration::from_millis(300)));
    trouble("network to Kafka: 300 to 600 ms each way for 15 s", 15, inject, true);
}

#[test]
fn connections_are_reset_again_and_again() {
    let inject = |stage: &mut Stage<Linked>| {
        for _ in 0..5 {
            each(stage, Link::cut);
            each(stage, Link::heal);
            stage.pass(Duration::from_secs(2));
        }
    };
    trouble("network to Kafka: all connections are closed five times, every 2 s", 0, inject, true);
}

#[test]
fn the_network_is_slower_than_what_is_sent() {
    let inject = |stage: &mut Stage<Linked>| each(stage, |link| link.limit(100_000));
    trouble("network to Kafka: 100 kB/s to all brokers together for 20 s", 20, inject, false);
}
