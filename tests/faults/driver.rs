//! One run: load, fault, recovery, judgement.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::commands::Commands;
use crate::evidence::{self, Stored};
use crate::support::{Bridge, Folder, Load, Registration, Registry, Settings, eventually, port, wait};

/// Devices of the load.
pub(crate) const DEVICES: usize = 40;

/// Messages per second of each.
const RATE: f64 = 10.0;

/// Time in which a queue stores what it has received of a bridge that is stopped.
const SOCKET_DRAINED: Duration = Duration::from_secs(1);

/// Messages that are stored before the fault, and behind it before it counts as over: three seconds of the load.
const SOME: f64 = 3.0 * DEVICES as f64 * RATE;

/// Traffic is back within this time after the cause is gone.
const BACK_WITHIN: Duration = Duration::from_secs(10);

const PATIENCE: Duration = Duration::from_secs(60);

/// One run at a time: the processor is to be busy with its load, not with other loads.
static ALONE: Mutex<()> = Mutex::new(());

/// The servers that a fault happens to.
pub(crate) trait Servers {
    /// Starts them.
    fn start() -> Self;

    /// Settings of a bridge that uses them.
    fn settings(&self, registry: &Registry) -> Settings;

    /// Where callers of commands connect.
    fn callers(&self) -> Vec<String>;

    /// All that is stored, in order for each device.
    fn read(&self) -> Vec<Stored>;

    /// Starts the bridge, with listeners at these addresses.
    fn start_bridge(&self, settings: &Settings, mqtt: SocketAddr, admin: SocketAddr) -> Bridge {
        Bridge::start(&settings.clone().fixed(mqtt, admin))
    }
}

/// A fault, and what is promised of it beside what is promised of all.
pub(crate) struct Fault<S> {
    /// The row's name.
    pub(crate) name: &'static str,
    /// How long it lasts after `inject`.
    pub(crate) lasting: Duration,
    /// Brings it about.
    pub(crate) inject: fn(&mut Stage<S>),
    /// Takes the cause away.
    pub(crate) heal: fn(&mut Stage<S>),
    /// Whether no device loses its connection.
    pub(crate) sessions_stay: bool,
    /// Whether every caller gets an outcome.
    pub(crate) all_answered: bool,
}

impl<S> Fault<S> {
    fn promised(&self) -> &'static str {
        match (self.sessions_stay, self.all_answered) {
            (false, false) => "",
            (true, false) => "connections stay",
            (false, true) => "callers are answered",
            (true, true) => "connections stay, callers are answered",
        }
    }
}

/// Servers, a bridge, its devices and a caller.
pub(crate) struct Stage<S> {
    /// The servers.
    pub(crate) servers: S,
    /// The bridge.
    pub(crate) bridge: Bridge,
    /// Records that were stored in a queue that is gone.
    pub(crate) before: Vec<Stored>,
    /// The devices.
    pub(crate) devices: Vec<Registration>,
    /// The registry that they stand in.
    pub(crate) registry: Registry,
    settings: Settings,
    /// Where devices connect.
    pub(crate) mqtt: SocketAddr,
    admin: SocketAddr,
    load: Load,
    commands: Commands,
}

impl<S: Servers> Stage<S> {
    fn start() -> Self {
        let servers = S::start();
        let (registry, devices) = Registry::numbered(DEVICES);
        let settings = servers.settings(&registry);
        let [mqtt, admin] = [0; 2].map(|_| SocketAddr::from(([127, 0, 0, 1], port::free_port())));
        let bridge = servers.start_bridge(&settings, mqtt, admin);
        let load = Load::start(mqtt, &registry, DEVICES, RATE);
        let commands = Commands::start(&servers.callers(), &devices);
        let before = Vec::new();
        let stage = Self { servers, bridge, before, devices, registry, settings, mqtt, admin, load, commands };
        stage.wait_stored(SOME);
        stage
    }

    /// Starts the bridge again, at the same addresses.
    pub(crate) fn start_bridge_again(&mut self) {
        self.bridge = self.servers.start_bridge(&self.settings, self.mqtt, self.admin);
    }

    /// Messages that the queue has acknowledged.
    pub(crate) fn stored(&self) -> f64 {
        self.bridge.metric("jetlinks_bridge_stored_total", &[])
    }

    /// Waits until so many messages more are stored.
    pub(crate) fn wait_stored(&self, count: f64) {
        let before = self.stored();
        eventually("messages are stored", PATIENCE, || (self.stored() > before + count).then_some(()));
    }

    /// Lets time pass: the fault goes on.
    pub(crate) fn pass(&self, time: Duration) {
        wait::within::<()>(time, || None);
    }

    /// Keeps all that is stored while the bridge is stopped, and then takes the queue away. Records that the bridge had
    /// written to its socket are stored after the stop, so the queue is read until nothing is added.
    pub(crate) fn keep_and(&mut self, take_away: impl FnOnce(&S)) {
        self.bridge.signal(libc::SIGSTOP);
        self.before = self.servers.read();
        loop {
            self.pass(SOCKET_DRAINED);
            let stored = self.servers.read();
            let is_complete = stored.len() == self.before.len();
            self.before = stored;
            if is_complete {
                break;
            }
        }
        take_away(&self.servers);
        self.bridge.signal(libc::SIGCONT);
    }

    fn all_stored(&self) -> Vec<Stored> {
        let mut stored = self.before.clone();
        stored.extend(self.servers.read());
        stored
    }

    /// Devices of which consumers believe something else than what is true at that moment, when it has not become right in
    /// time.
    fn presence_wrong(&self, is_right: impl Fn(Option<&String>, Option<&String>) -> bool) -> usize {
        let mut wrong = DEVICES;
        wait::within(BACK_WITHIN, || {
            let living = self.bridge.sessions();
            let online = evidence::online(&self.all_stored());
            let is_wrong = |device: &&Registration| !is_right(online.get(&device.id), living.get(&device.id));
            wrong = self.devices.iter().filter(is_wrong).count();
            (wrong == 0).then_some(())
        });
        wrong
    }

    fn wait_recovered(&self) {
        eventually("every device has a session", PATIENCE, || {
            (self.bridge.metric("jetlinks_bridge_sessions", &[]) as usize == DEVICES).then_some(())
        });
        let mut rest: Vec<&Registration> = self.devices.iter().collect();
        eventually("every device is reached by commands", PATIENCE, || {
            rest.retain(|device| !self.commands.reach(device));
            rest.is_empty().then_some(())
        });
        self.wait_stored(SOME);
    }

    /// Ends the load, and judges its ledger; the summary of the devices and the verdict. What is not there is looked for once
    /// more: a broker that has just become the leader of a partition shows its last records only when followers have asked
    /// it. What is lost stays away.
    fn judge(&mut self) -> (Value, Value) {
        let summary = self.load.finish();
        let folder = Folder::new("envelopes");
        let mut verdict = Value::Null;
        wait::within(BACK_WITHIN, || {
            let lines = self.all_stored().iter().fold(String::new(), |mut lines, stored| {
                let _ = writeln!(lines, "{}", stored.text);
                lines
            });
            verdict = self.load.verdict(&self.bridge.config(), &folder.write("envelopes", &lines));
            (verdict["lost"] == 0).then_some(())
        });
        (summary, verdict)
    }
}

/// Runs it, prints its row, and shows that the promises are kept; all that was stored.
///
/// # Panics
/// When one is not.
#[expect(clippy::print_stdout, reason = "the row is what the run is for")]
pub(crate) fn run<S: Servers>(fault: &Fault<S>) -> Vec<Stored> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut stage = Stage::<S>::start();
    (fault.inject)(&mut stage);
    stage.pass(fault.lasting);
    (fault.heal)(&mut stage);
    let (begin, before) = (Instant::now(), stage.stored());
    eventually("messages are stored again", PATIENCE, || (stage.stored() > before).then_some(()));
    let back = begin.elapsed();
    stage.wait_recovered();
    stage.commands.stop();
    // The fault may cost devices their connections once more: a server that wakes makes the others elect a leader.
    let mut presence = stage.presence_wrong(|online, living| living.is_some() && online == living);
    let outcomes = stage.commands.outcomes();
    let (summary, verdict) = stage.judge();
    presence += stage.presence_wrong(|online, _| online.is_none());
    let stored = stage.all_stored();
    let gap = evidence::longest_gap(&stored);
    let row = format!(
        "| {} | {} | {} | {} | {} | {} ({}) | {:.1} s | {:.1} s | {} | {presence} | {} of {} | {} |",
        fault.name,
        fault.promised(),
        verdict["acknowledged"],
        verdict["lost"],
        verdict["out_of_order"],
        verdict["duplicates_by_n"],
        verdict["duplicates_by_id"],
        gap.as_secs_f64(),
        back.as_secs_f64(),
        summary["reconnects"],
        outcomes.without,
        outcomes.asked,
        outcomes.repeated,
    );
    println!("{row}");
    for promise in ["lost", "out_of_order", "id_clashes", "unexpected"] {
        assert_eq!(verdict[promise], 0, "{row}\n{verdict}");
    }
    assert!(verdict["acknowledged"].as_f64().unwrap() > SOME, "{row}\n{verdict}");
    assert_eq!(summary["unacknowledged"], 0, "{row}\n{summary}");
    assert_eq!(presence, 0, "presence: {row}\n{}", stage.bridge.log());
    assert_eq!(outcomes.repeated, 0, "second outcomes: {row}");
    assert!(back < BACK_WITHIN, "back after {back:?}: {row}\n{}", stage.bridge.log());
    assert!(!fault.sessions_stay || summary["reconnects"] == 0, "connections: {row}\n{}", stage.bridge.log());
    assert!(!fault.all_answered || outcomes.without == 0, "outcomes: {row}\n{}", stage.bridge.log());
    stored
}
