//! Faults of the network between the bridge and NATS.

use std::net::SocketAddr;
use std::time::Duration;

use crate::driver::{Fault, Servers, Stage, run};
use crate::evidence::{Stored, read_stream};
use crate::preload::{NAME, Preload};
use crate::support::link::End;
use crate::support::{Bridge, Link, Nats, Registry, Settings, port};

/// A server, and the link by which the bridge reaches it; the caller has it for itself.
pub(crate) struct Linked {
    nats: Nats,
    link: Link,
}

impl Servers for Linked {
    fn start() -> Self {
        let nats = Nats::start();
        let link = Link::to(nats.address());
        Self { nats, link }
    }

    fn settings(&self, registry: &Registry) -> Settings {
        let servers = format!("[\"nats://{}\"]", self.link.address());
        Settings::nats(registry, &self.nats).toml("nats.servers", &servers)
    }

    fn callers(&self) -> Vec<String> {
        vec![self.nats.url()]
    }

    fn read(&self) -> Vec<Stored> {
        read_stream(&[self.nats.url()])
    }
}

/// A fault that `inject` begins and a healed link ends.
fn trouble(name: &'static str, seconds: u64, inject: fn(&mut Stage<Linked>), sessions_stay: bool) {
    let heal: fn(&mut Stage<Linked>) = |stage| {
        let link = &stage.servers.link;
        link.limit(0);
        link.delay(Duration::ZERO);
        link.heal();
    };
    let lasting = Duration::from_secs(seconds);
    run(&Fault { name, lasting, inject, heal, sessions_stay, all_answered: false });
}

#[test]
fn nothing_comes_through_for_3_s() {
    trouble("network: nothing comes through for 3 s, then all of it", 3, |s| s.servers.link.silence(), true);
}

#[test]
fn nothing_comes_through_for_8_s() {
    trouble("network: nothing comes through for 8 s, then all of it", 8, |s| s.servers.link.silence(), true);
}

#[test]
fn nothing_comes_through_for_15_s() {
    trouble("network: nothing comes through for 15 s, then all of it", 15, |s| s.servers.link.silence(), false);
}

#[test]
fn nothing_comes_through_for_60_s() {
    trouble("network: nothing comes through for 60 s, then all of it", 60, |s| s.servers.link.silence(), false);
}

#[test]
fn what_is_sent_for_60_s_is_lost() {
    let inject = |stage: &mut Stage<Linked>| {
        stage.servers.link.silence();
        stage.pass(Duration::from_secs(60));
        stage.servers.link.cut();
    };
    trouble("network: nothing comes through for 60 s, and it is lost with its connections", 0, inject, false);
}

#[test]
fn what_is_sent_for_15_s_is_lost() {
    let inject = |stage: &mut Stage<Linked>| {
        stage.servers.link.silence();
        stage.pass(Duration::from_secs(15));
        stage.servers.link.cut();
    };
    trouble("network: nothing comes through for 15 s, and it is lost with its connections", 0, inject, false);
}

#[test]
fn the_bridge_is_heard_and_hears_nothing() {
    let inject = |stage: &mut Stage<Linked>| stage.servers.link.silence_to(End::Near);
    trouble("network: nothing comes through to the bridge for 9 s", 9, inject, false);
}

#[test]
fn the_bridge_hears_and_is_not_heard() {
    let inject = |stage: &mut Stage<Linked>| stage.servers.link.silence_to(End::Far);
    trouble("network: nothing comes through to NATS for 9 s", 9, inject, false);
}

#[test]
fn the_network_is_late() {
    let inject = |stage: &mut Stage<Linked>| stage.servers.link.delay(Duration::from_millis(300));
    trouble("network: 300 to 600 ms each way for 15 s", 15, inject, true);
}

#[test]
fn connections_are_reset_again_and_again() {
    let inject = |stage: &mut Stage<Linked>| {
        for _ in 0..5 {
            stage.servers.link.cut();
            stage.servers.link.heal();
            stage.pass(Duration::from_secs(2));
        }
    };
    trouble("network: all connections are closed five times, every 2 s", 0, inject, true);
}

#[test]
fn the_network_is_slower_than_what_is_sent() {
    let inject = |stage: &mut Stage<Linked>| stage.servers.link.limit(30_000);
    trouble("network: 30 kB/s to NATS for 20 s", 20, inject, false);
}

/// A server that the bridge knows by a name; each of two links makes one address of it.
pub(crate) struct Named {
    nats: Nats,
    former: Link,
    latter: Link,
    preload: Preload,
}

impl Servers for Named {
    fn start() -> Self {
        let (nats, preload, port) = (Nats::start(), Preload::build(), port::free_port());
        let [former, latter] = [1, 2].map(|last| Link::at(SocketAddr::from(([127, 0, 0, last], port)), nats.address()));
        preload.lead_to(former.address().ip());
        Self { nats, former, latter, preload }
    }

    fn settings(&self, registry: &Registry) -> Settings {
        let servers = format!("[\"nats://{NAME}:{}\"]", self.former.address().port());
        Settings::nats(registry, &self.nats).toml("nats.servers", &servers)
    }

    fn callers(&self) -> Vec<String> {
        vec![self.nats.url()]
    }

    fn read(&self) -> Vec<Stored> {
        read_stream(&[self.nats.url()])
    }

    fn start_bridge(&self, settings: &Settings, mqtt: SocketAddr, admin: SocketAddr) -> Bridge {
        self.preload.start_bridge(&settings.clone().fixed(mqtt, admin))
    }
}

#[test]
fn the_name_of_the_server_leads_elsewhere() {
    run(&Fault::<Named> {
        name: "network: the address of NATS answers no more, and after 3 s its name leads to another one",
        lasting: Duration::from_secs(3),
        inject: |stage| stage.servers.former.silence(),
        heal: |stage| stage.servers.preload.lead_to(stage.servers.latter.address().ip()),
        sessions_stay: false,
        all_answered: false,
    });
}
