//! Faults of the bridge's own process and of what is given to it.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::driver::{DEVICES, Fault, Servers, Stage, run};
use crate::evidence::{Stored, read_stream};
use crate::support::{Bridge, Connect, Nats, Pipe, Registration, Registry, Settings, Wire};

impl Servers for Nats {
    fn start() -> Self {
        Nats::start()
    }

    fn settings(&self, registry: &Registry) -> Settings {
        Settings::nats(registry, self)
    }

    fn callers(&self) -> Vec<String> {
        vec![self.url()]
    }

    fn read(&self) -> Vec<Stored> {
        read_stream(&[self.url()])
    }
}

/// A fault that lasts so long.
fn trouble<S: Servers>(
    name: &'static str,
    seconds: u64,
    inject: fn(&mut Stage<S>),
    heal: fn(&mut Stage<S>),
    [sessions_stay, all_answered]: [bool; 2],
) {
    run(&Fault { name, lasting: Duration::from_secs(seconds), inject, heal, sessions_stay, all_answered });
}

fn nothing<S>(_: &mut Stage<S>) {}

#[test]
fn the_bridge_stands_still_for_5_s() {
    let inject = |stage: &mut Stage<Nats>| stage.bridge.signal(libc::SIGSTOP);
    let heal = |stage: &mut Stage<Nats>| stage.bridge.signal(libc::SIGCONT);
    trouble("process: the bridge stands still for 5 s (SIGSTOP)", 5, inject, heal, [true, true]);
}

#[test]
fn the_bridge_stands_still_for_20_s() {
    let inject = |stage: &mut Stage<Nats>| stage.bridge.signal(libc::SIGSTOP);
    let heal = |stage: &mut Stage<Nats>| stage.bridge.signal(libc::SIGCONT);
    trouble("process: the bridge stands still for 20 s (SIGSTOP)", 20, inject, heal, [false, false]);
}

#[test]
fn the_bridge_is_killed_while_devices_are_taken_over() {
    let inject = |stage: &mut Stage<Nats>| {
        let mqtt = stage.mqtt;
        let mut wires: Vec<Wire> = stage.devices.iter().map(|_| Wire::open(mqtt)).collect();
        for (wire, device) in wires.iter_mut().zip(&stage.devices) {
            wire.send_regardless(&Connect::of(device).bytes());
        }
        // Some have their CONNACK, the others wait for it.
        wires[DEVICES / 2].next();
        stage.bridge.process().kill9();
    };
    let heal = |stage: &mut Stage<Nats>| stage.start_bridge_again();
    let name = "process: the bridge is killed while every device is being taken over, and started again after 2 s";
    trouble(name, 2, inject, heal, [false, false]);
}

#[test]
fn the_bridge_is_drained_and_started_again() {
    let inject = |stage: &mut Stage<Nats>| {
        stage.bridge.signal(libc::SIGTERM);
        assert_eq!(stage.bridge.exit_code(), 0, "{}", stage.bridge.log());
    };
    let heal = |stage: &mut Stage<Nats>| stage.start_bridge_again();
    trouble("process: the bridge is drained (SIGTERM) and started again", 0, inject, heal, [false, true]);
}

#[test]
fn the_registry_file_is_garbled() {
    let inject = |stage: &mut Stage<Nats>| {
        std::fs::write(stage.registry.path(), "[[device]]\nid = \0").expect("the folder takes files");
    };
    let heal = |stage: &mut Stage<Nats>| stage.registry.rewrite(&stage.devices);
    trouble("process: the registry file is garbled for 15 s", 15, inject, heal, [true, true]);
}

#[test]
fn the_registry_file_changes_again_and_again() {
    let inject = |stage: &mut Stage<Nats>| {
        for number in 1..=6 {
            let further = (1..=number).map(|number| Registration::new(&format!("further{number}")));
            stage.registry.rewrite(&stage.devices.iter().cloned().chain(further).collect::<Vec<_>>());
            stage.pass(Duration::from_secs(2));
        }
    };
    trouble("process: the registry file is reloaded six times, every 2 s", 0, inject, nothing, [true, true]);
}

/// A bridge with few descriptors.
struct Narrow {
    nats: Nats,
    idle: Vec<TcpStream>,
}

impl Servers for Narrow {
    fn start() -> Self {
        Self { nats: Nats::start(), idle: Vec::new() }
    }

    fn settings(&self, registry: &Registry) -> Settings {
        Settings::nats(registry, &self.nats)
    }

    fn callers(&self) -> Vec<String> {
        self.nats.callers()
    }

    fn read(&self) -> Vec<Stored> {
        self.nats.read()
    }

    fn start_bridge(&self, settings: &Settings, mqtt: SocketAddr, admin: SocketAddr) -> Bridge {
        Bridge::start_with_files(&settings.clone().fixed(mqtt, admin), 200, 200)
    }
}

#[test]
fn descriptors_are_exhausted_while_the_queue_is_away() {
    let inject = |stage: &mut Stage<Narrow>| {
        let mqtt = stage.mqtt;
        stage.servers.idle.extend((0..300).map_while(|_| TcpStream::connect(mqtt).ok()));
        stage.servers.nats.kill9();
    };
    let heal = |stage: &mut Stage<Narrow>| stage.servers.nats.restart();
    let name = "process: 300 silent connections to a bridge with 200 descriptors, and NATS is killed for 5 s";
    trouble(name, 5, inject, heal, [true, false]);
}

/// A bridge whose log nobody reads.
struct Unread {
    nats: Nats,
    pipe: Pipe,
}

impl Servers for Unread {
    fn start() -> Self {
        Self { nats: Nats::start(), pipe: Pipe::new() }
    }

    fn settings(&self, registry: &Registry) -> Settings {
        Settings::nats(registry, &self.nats)
    }

    fn callers(&self) -> Vec<String> {
        self.nats.callers()
    }

    fn read(&self) -> Vec<Stored> {
        self.nats.read()
    }

    fn start_bridge(&self, settings: &Settings, mqtt: SocketAddr, admin: SocketAddr) -> Bridge {
        Bridge::start_logging_to(&self.pipe, settings, mqtt, admin)
    }
}

#[test]
fn the_log_is_not_read() {
    let inject = |stage: &mut Stage<Unread>| {
        stage.servers.pipe.fill();
        stage.servers.nats.kill9();
    };
    let heal = |stage: &mut Stage<Unread>| stage.servers.nats.restart();
    trouble("process: stderr is full and unread, and NATS is killed for 5 s", 5, inject, heal, [true, false]);
}
