//! A replica that is cut off from NATS: what it keeps, and how double sessions become one when it is back.

use std::time::{Duration, Instant};

use crate::support::caller::{Caller, read_of};
use crate::support::wire::Incoming;
use crate::support::{Bridge, Connect, Link, Nats, Registration, Registry, Settings, Wire, eventually, packet};

const PATIENCE: Duration = Duration::from_secs(60);

/// Devices that have a session on both sides.
const DEVICES: usize = 60;

/// A bridge that reaches NATS by a link, one that has it for itself, and a caller beside the latter.
struct Stage {
    link: Link,
    cut_off: Bridge,
    other: Bridge,
    devices: Vec<Registration>,
    caller: Caller,
    _nats: Nats,
    _registry: Registry,
}

impl Stage {
    fn new() -> Self {
        let nats = Nats::start();
        let link = Link::to(nats.address());
        let (registry, devices) = Registry::numbered(DEVICES);
        let start = |url: String| Bridge::start(&Settings::commands(&registry, &url).text("nats.ping_interval", "1s"));
        let (cut_off, other) = (start(format!("nats://{}", link.address())), start(nats.url()));
        let caller = Caller::connect(&[nats.url()]);
        let stage = Self { link, cut_off, other, devices, caller, _nats: nats, _registry: registry };
        stage.wait_for(&stage.other, "ok");
        stage.wait_for(&stage.cut_off, "ok");
        stage
    }

    fn wait_for(&self, replica: &Bridge, coordination: &str) {
        eventually(&format!("the coordination is {coordination}"), PATIENCE, || {
            (replica.readiness().1["coordination"] == coordination).then_some(())
        });
    }

    fn connect(&self, replica: &Bridge) -> Vec<Wire> {
        self.devices.iter().map(|device| Wire::connect(replica.mqtt(), device)).collect()
    }

    /// Connects devices all at once, for a replica that cannot declare their interests; then they leave.
    fn visit(&self, replica: &Bridge, devices: &[Registration]) {
        let mut wires: Vec<Wire> = devices.iter().map(|_| Wire::open(replica.mqtt())).collect();
        wires.iter_mut().zip(devices).for_each(|(wire, device)| wire.send(&Connect::of(device).bytes()));
        for (wire, device) in wires.iter_mut().zip(devices) {
            assert_eq!(wire.next_packet().body, [0, 0], "{}", device.id);
            wire.send(&packet::DISCONNECT);
        }
        wires.iter_mut().for_each(Wire::wait_closed);
    }

    /// Waits until a replica has judged so many claims on devices that it holds.
    fn wait_for_claims(replica: &Bridge, count: usize) {
        eventually(&format!("{count} claims are judged"), PATIENCE, || {
            let judged = replica.metric("jetlinks_bridge_coordination_claims_total", &[]) as usize;
            (judged >= count).then_some(())
        });
    }

    /// Heals the link and waits until the sessions of `losers` have ended; those of `winners` are there and get one
    /// command each.
    #[expect(clippy::print_stdout, reason = "a measured figure, for whoever asks with --nocapture")]
    fn assert_settled(&self, losers: &mut [Wire], winners: &mut [Wire]) {
        self.link.heal();
        let begin = Instant::now();
        self.wait_for(&self.cut_off, "ok");
        for loser in losers {
            while loser.next() != Incoming::Closed {}
        }
        println!("{DEVICES} double sessions were settled {:?} after the link was back", begin.elapsed());
        let sessions = || [&self.cut_off, &self.other].map(|it| it.metric("jetlinks_bridge_sessions", &[]) as usize);
        eventually("one session is left of each device", PATIENCE, || {
            (sessions().iter().sum::<usize>() == winners.len()).then_some(())
        });
        let body = r#"{"properties":["sn"],"headers":{"timeout":20000}}"#;
        for (device, winner) in self.devices.iter().zip(winners) {
            winner.send(&packet::PINGREQ);
            assert_eq!(winner.next_packet().header, 0xD0, "{} was to stay", device.id);
            // The connection for commands comes back by itself; until then nobody responds, and a caller asks again.
            let (asked, command) = eventually("the command finds the device", PATIENCE, || {
                let asked = self.caller.ask(&read_of(&device.id), body);
                match winner.next_within(Duration::from_secs(1))? {
                    Incoming::Packet(packet) => Some((asked, packet.publish()?)),
                    Incoming::Closed => panic!("{} was to stay", device.id),
                }
            });
            winner.reply(&command, r#""properties":{"sn":1}"#);
            assert!(self.caller.answers(&[asked])[0].is_of_device());
        }
    }
}

#[test]
fn sessions_that_began_elsewhere_while_a_replica_was_cut_off_win_when_it_is_back() {
    let stage = Stage::new();
    let mut older = stage.connect(&stage.cut_off);
    stage.link.cut();
    stage.wait_for(&stage.cut_off, "away");
    let mut newer = stage.connect(&stage.other);
    for wire in &mut older {
        wire.send(&packet::PINGREQ);
        assert_eq!(wire.next_packet().header, 0xD0, "a replica that is cut off keeps its sessions");
    }
    stage.assert_settled(&mut older, &mut newer);
}

#[test]
fn sessions_that_began_on_a_replica_that_was_cut_off_win_when_it_is_back() {
    let stage = Stage::new();
    let mut older = stage.connect(&stage.other);
    stage.link.cut();
    stage.wait_for(&stage.cut_off, "away");
    let mut newer = stage.connect(&stage.cut_off);
    stage.assert_settled(&mut older, &mut newer);
}

#[test]
fn a_replica_that_hears_nothing_more_without_being_told_settles_likewise() {
    let stage = Stage::new();
    let mut older = stage.connect(&stage.cut_off);
    stage.link.silence();
    let mut newer = stage.connect(&stage.other);
    stage.wait_for(&stage.cut_off, "away");
    stage.assert_settled(&mut older, &mut newer);
}

#[test]
fn a_short_silence_of_nats_leaves_no_double_session() {
    let stage = Stage::new();
    let mut older = stage.connect(&stage.cut_off);
    stage.link.silence();
    let mut newer = stage.connect(&stage.other);
    stage.assert_settled(&mut older, &mut newer);
}

/// Lets claims of sessions that have ended come late, to the replica that holds the devices by then; `until` says how
/// long the link stands still.
fn assert_late_claims_end_nothing(until: impl Fn(&Stage)) {
    let stage = Stage::new();
    let (moved, stayed) = stage.devices.split_at(DEVICES / 2);
    let connect = |devices: &[Registration]| {
        devices.iter().map(|device| Wire::connect(stage.other.mqtt(), device)).collect::<Vec<_>>()
    };
    let mut living = connect(stayed);
    // What the replica says from now on waits on the link, and nothing of it is lost.
    stage.link.silence();
    stage.visit(&stage.cut_off, &stage.devices);
    living.extend(connect(moved));
    until(&stage);
    stage.link.heal();
    // Those that moved on began later than what is claimed, the others before.
    Stage::wait_for_claims(&stage.other, DEVICES);
    stage.wait_for(&stage.cut_off, "ok");
    for wire in &mut living {
        wire.send(&packet::PINGREQ);
        assert_eq!(wire.next_packet().header, 0xD0, "a session that lives was to stay");
    }
    assert_eq!(stage.other.metric("jetlinks_bridge_sessions", &[]) as usize, DEVICES);
    assert_eq!(stage.other.metric("jetlinks_bridge_coordination_claims_total", &["yield"]), 0.0);
}

#[test]
fn claims_that_come_late_end_no_session_in_favour_of_one_that_has_ended() {
    assert_late_claims_end_nothing(|_| ());
}

#[test]
fn claims_that_come_after_their_replica_has_given_the_server_up_end_nothing_either() {
    assert_late_claims_end_nothing(|stage| stage.wait_for(&stage.cut_off, "away"));
}
