//! Faults of the bridge's own process and of what is given to it.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::driver::{DEVICES, Fault, Servers, Stage, run};
use crate::evidence::{Stored, read_stream};
use crate::preload::Preload;
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

/// CONNACK: identity refused (MQTT 3.1.1, section 3.2.2.3).
const IDENTITY_REFUSED: u8 = 4;

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

#[test]
fn the_bridge_is_drained_while_the_queue_is_away() {
    let inject = |stage: &mut Stage<Nats>| {
        stage.servers.kill9();
        stage.bridge.signal(libc::SIGTERM);
        // Messages are left unacknowledged.
        assert_eq!(stage.bridge.exit_code(), 1, "{}", stage.bridge.log());
    };
    let heal = |stage: &mut Stage<Nats>| {
        stage.servers.restart();
        stage.start_bridge_again();
    };
    let name = "process: NATS is killed, the bridge is drained (SIGTERM, exit code 1), and both are started again";
    trouble(name, 0, inject, heal, [false, false]);
}

/// Surroundings of the bridge's process.
trait Surroundings {
    fn new() -> Self;

    fn start_bridge(&self, settings: &Settings, mqtt: SocketAddr, admin: SocketAddr) -> Bridge;
}

/// A server, and the surroundings of a bridge.
struct Within<R> {
    nats: Nats,
    around: R,
}

impl<R: Surroundings> Servers for Within<R> {
    fn start() -> Self {
        Self { nats: Nats::start(), around: R::new() }
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
        self.around.start_bridge(settings, mqtt, admin)
    }
}

/// Few descriptors, and connections that take them.
struct Narrow(Vec<TcpStream>);

impl Surroundings for Narrow {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn start_bridge(&self, settings: &Settings, mqtt: SocketAddr, admin: SocketAddr) -> Bridge {
        Bridge::start_with_files(&settings.clone().fixed(mqtt, admin), 200, 200)
    }
}

#[test]
fn descriptors_are_exhausted_while_the_queue_is_away() {
    let inject = |stage: &mut Stage<Within<Narrow>>| {
        let mqtt = stage.mqtt;
        stage.servers.around.0.extend((0..300).map_while(|_| TcpStream::connect(mqtt).ok()));
        stage.servers.nats.kill9();
    };
    let heal = |stage: &mut Stage<Within<Narrow>>| stage.servers.nats.restart();
    let name = "process: 300 silent connections to a bridge with 200 descriptors, and NATS is killed for 5 s";
    trouble(name, 5, inject, heal, [true, false]);
}

/// A log that nobody reads.
impl Surroundings for Pipe {
    fn new() -> Self {
        Pipe::new()
    }

    fn start_bridge(&self, settings: &Settings, mqtt: SocketAddr, admin: SocketAddr) -> Bridge {
        Bridge::start_logging_to(self.end(), settings, mqtt, admin)
    }
}

#[test]
fn the_log_is_not_read() {
    let inject = |stage: &mut Stage<Within<Pipe>>| {
        stage.servers.around.fill();
        stage.servers.nats.kill9();
    };
    let heal = |stage: &mut Stage<Within<Pipe>>| stage.servers.nats.restart();
    trouble("process: stderr is full and unread, and NATS is killed for 5 s", 5, inject, heal, [true, false]);
}

/// A log on a disk that is full from the start.
struct FullDisk;

impl Surroundings for FullDisk {
    fn new() -> Self {
        Self
    }

    fn start_bridge(&self, settings: &Settings, mqtt: SocketAddr, admin: SocketAddr) -> Bridge {
        let full = File::options().write(true).open("/dev/full").expect("every Linux has it");
        Bridge::start_logging_to(full.into(), settings, mqtt, admin)
    }
}

#[test]
fn the_disk_of_the_log_is_full() {
    let inject = |stage: &mut Stage<Within<FullDisk>>| stage.servers.nats.kill9();
    let heal = |stage: &mut Stage<Within<FullDisk>>| stage.servers.nats.restart();
    let name = "process: stderr is on a disk that is full, and NATS is killed for 5 s";
    trouble(name, 5, inject, heal, [true, false]);
}

/// A clock that can be wrong.
impl Surroundings for Preload {
    fn new() -> Self {
        Self::build()
    }

    fn start_bridge(&self, settings: &Settings, mqtt: SocketAddr, admin: SocketAddr) -> Bridge {
        self.start_bridge(&settings.clone().fixed(mqtt, admin))
    }
}

/// The clock of the bridge is wrong for 12 s. A device whose own clock is right is not let in then, and ids rise all the
/// time.
fn wrong_clock(name: &'static str, inject: fn(&mut Stage<Within<Preload>>)) {
    let heal = |stage: &mut Stage<Within<Preload>>| {
        let mut wire = Wire::open(stage.mqtt);
        wire.send(&Connect::of(&stage.devices[0]).bytes());
        assert_eq!(wire.next_packet().body, [0, IDENTITY_REFUSED]);
        stage.servers.around.shift_clock(0);
    };
    let (lasting, sessions_stay, all_answered) = (Duration::from_secs(12), true, true);
    let stored = run(&Fault { name, lasting, inject, heal, sessions_stay, all_answered });
    let (mut last, mut seen) = (HashMap::new(), HashSet::new());
    for Stored { envelope, .. } in stored.iter().filter(|stored| stored.envelope["origin"] == "device") {
        let [session, id] = ["sessionid", "id"].map(|member| envelope[member].as_str().unwrap().to_owned());
        // Copies keep their id.
        if seen.insert(id.clone()) {
            let before = last.insert(session, id.clone());
            assert!(before.is_none_or(|before| before < id), "{envelope}");
        }
    }
}

#[test]
fn the_clock_is_ahead() {
    let inject = |stage: &mut Stage<Within<Preload>>| stage.servers.around.shift_clock(3600);
    wrong_clock("process: the clock of the bridge is one hour ahead for 12 s", inject);
}

#[test]
fn the_clock_is_behind() {
    let inject = |stage: &mut Stage<Within<Preload>>| stage.servers.around.shift_clock(-3600);
    wrong_clock("process: the clock of the bridge is one hour behind for 12 s", inject);
}
