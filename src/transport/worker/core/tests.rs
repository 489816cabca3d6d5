//! A worker's core and its surroundings; the test owns the clock.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, pending};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use tokio::sync::mpsc;

use super::{CoreSettings, DrainProgress, WorkerCore};
use crate::codec::mqtt::Version;
use crate::protocol::child::{Child, Children};
use crate::protocol::command::{Command, MessageIds};
use crate::protocol::downlink::{Code, Downlink, DownlinkEvent, Outcome, Recipient, Ticket};
use crate::protocol::envelope::{Encoder, Mode};
use crate::protocol::id::{DeviceId, ProductId};
use crate::protocol::limit::{Limits, Load, Now};
use crate::protocol::network::{Network, Source};
use crate::protocol::uplink::{
    Addressing, Availability, DeliveryId, Handover, Receipt, Record, Report, SlotId, Uplink,
};
use crate::replica::{ClusterEvent, Directory, WorkerMessage, WorkerSender};
use crate::session::identity::{Identity, Lookup};
use crate::session::mqtt::{Ending, SpareBuffers};
use crate::transport::worker::heartbeat::HeartbeatSettings;
use crate::transport::{
    ByteStream, Connect, ConnectionLimit, Drained, Environment, Registry, ReplicaHandle, SocketBounds, TransportKind,
};

const CONNACK: &[u8] = &[0x20, 2, 0, 0];
const PUBACK: &[u8] = &[0x40, 2];

/// Everything that left the core.
#[derive(Default)]
struct Outside {
    published: VecDeque<(DeliveryId, String)>,
    outcomes: Vec<(u64, Option<Code>)>,
    detached: Vec<SlotId>,
    barriers: Vec<u64>,
}

struct Handle(Rc<RefCell<Outside>>);

impl Uplink for Handle {
    fn publish(&mut self, id: DeliveryId, record: &Record) -> Handover {
        let outside = &mut *self.0.borrow_mut();
        let envelope: serde_json::Value = serde_json::from_slice(&record.payload).expect("an envelope is JSON");
        let name = envelope["type"].as_str().unwrap_or_default().trim_start_matches("org.jetlinks.").to_owned();
        outside.published.push_back((id, name));
        Handover::Taken
    }

    fn flush(&mut self) {}
}

impl Downlink for Handle {
    fn attach(&mut self, _: SlotId, _: &[(ProductId, DeviceId)]) {}

    fn detach(&mut self, session: SlotId) {
        self.0.borrow_mut().detached.push(session);
    }

    fn answer(&mut self, ticket: Ticket, outcome: Outcome) {
        self.0.borrow_mut().outcomes.push((ticket.0, outcome.failure.map(|(code, _)| code)));
    }

    fn send_barrier(&mut self, number: u64) -> bool {
        self.0.borrow_mut().barriers.push(number);
        true
    }
}

/// Permits everybody.
struct FakeRegistry;

impl Children for FakeRegistry {
    fn child(&self, _: &str) -> Child {
        Child::Unknown
    }
}

impl Registry for FakeRegistry {
    fn device<'a>(&'a self, _: &'a str, _: Source) -> Pin<Box<dyn Future<Output = Lookup> + 'a>> {
        Box::pin(pending())
    }

    fn permits(&self, _: &str, _: &Identity) -> bool {
        true
    }
}

/// The device's end of a connection.
#[derive(Clone, Default)]
struct Pipe {
    bytes: Rc<RefCell<Vec<u8>>>,
    is_full: Rc<Cell<bool>>,
}

impl ByteStream for Pipe {
    fn try_write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.is_full.get() {
            return Ok(0);
        }
        self.bytes.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }
}

impl Pipe {
    /// Bytes that the device got since the last call.
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.bytes.borrow_mut())
    }
}

/// Age at which sessions end.
const AGE_US: u64 = 3_600_000_000;

struct Rig {
    core: WorkerCore<Pipe>,
    outside: Rc<RefCell<Outside>>,
    now: Now,
    cluster_events: mpsc::UnboundedReceiver<ClusterEvent>,
    messages: mpsc::UnboundedReceiver<WorkerMessage>,
}

impl Rig {
    fn new() -> Self {
        let outside = Rc::new(RefCell::new(Outside::default()));
        let now = Now { unix_ms: 1_700_000_000_000, us: 1_000_000 };
        let environment = Environment {
            limits: Limits {
                packet_bytes: 1024,
                inflight_per_connection: 2,
                inflight_bytes: 1 << 20,
                ack_timeout_us: 10_000_000,
                keep_alive_max_us: 1_200_000_000,
                command_timeout_ms: 5_000,
                command_timeout_max_ms: 600_000,
                commands_per_device: 3,
                commands: 100,
            },
            load: Load::default(),
            encoder: Encoder::new(Mode::Structured, Addressing::Key, "replica1".to_owned(), 7),
            uplink: Box::new(Handle(outside.clone())),
            downlink: Box::new(Handle(outside.clone())),
            registry: Arc::new(FakeRegistry),
            meter: Box::new(()),
            latest: now,
            message_ids: MessageIds::new(1024, 0, 1),
            spare_buffers: SpareBuffers::default(),
        };
        let (sender, cluster_events) = mpsc::unbounded_channel();
        let (worker_sender, messages) = WorkerSender::new();
        let replica = ReplicaHandle {
            index: 0,
            directory: Arc::new(Directory::default()),
            connection_limit: Arc::new(ConnectionLimit::new(100, SocketBounds::new(100))),
            worker_senders: [worker_sender].into(),
            cluster_events: Some(sender),
        };
        let settings = CoreSettings {
            heartbeat: HeartbeatSettings { period_us: 30_000_000, is_periodic: false },
            drain_timeout_us: 10_000_000,
            session_age_max_us: Some(AGE_US),
            seed: 7,
        };
        let mut core = WorkerCore::new(&settings, environment, replica, Vec::new());
        core.receipts(
            now,
            &mut Vec::new(),
            Report { availability: Availability::Ok, epoch: 1, wants_heartbeat: false },
        );
        Self { core, outside, now, cluster_events, messages }
    }

    fn claim(&mut self, device: &str) -> SlotId {
        let connect = Connect {
            device: DeviceId::new(device).expect("a valid id"),
            identity: Identity {
                product: ProductId::new("product1").expect("a valid id"),
                secure_id: "".into(),
                secure_key: "".into(),
                enabled: true,
                children: [].into(),
            },
            version: Version::V311,
            keep_alive_secs: 60,
            will: None,
            network: Network::of([10, 0, 0, 1].into()),
            peer: "10.0.0.1:40000".into(),
        };
        self.core.claim(self.now, connect).expect("it may have a session")
    }

    /// A session whose `online` is stored.
    fn session(&mut self, device: &str) -> (SlotId, Pipe) {
        let (session, pipe) = (self.claim(device), Pipe::default());
        self.event(DownlinkEvent::Attached(session));
        assert!(self.core.poll_attached(session, Waker::noop()).is_ready());
        assert!(self.core.begin(self.now, session, TransportKind::Tcp, pipe.clone(), Vec::new()));
        assert_eq!(pipe.take(), CONNACK);
        self.store_all();
        (session, pipe)
    }

    fn event(&mut self, event: DownlinkEvent) {
        self.core.command_events(self.now, &mut [event].into_iter());
    }

    fn command(&mut self, to: Recipient, ticket: u64) {
        let command = Command::from_json(
            br#"{"messageType":"READ_PROPERTY","productId":"product1","deviceId":"device1","messageId":"m1"}"#,
        );
        self.event(DownlinkEvent::Command { to, ticket: Some(Ticket(ticket)), command });
    }

    /// Reads from a device, as `Worker` does; the number of bytes that were taken in.
    fn read(&mut self, session: SlotId, bytes: &[u8]) -> Option<usize> {
        let now = self.now;
        self.core.take_waiting(|| now, session);
        if !self.core.may_read(|| now, session) {
            return None;
        }
        let room = self.core.reserve(session)?;
        Some(self.core.received(|| now, session, &bytes[..room.min(bytes.len())]).bytes)
    }

    fn report(&mut self, availability: Availability, epoch: u64, mut receipts: Vec<Receipt>) {
        self.core.receipts(self.now, &mut receipts, Report { availability, epoch, wants_heartbeat: false });
    }

    /// Stores everything that was published; the types of it.
    fn store_all(&mut self) -> Vec<String> {
        let published = std::mem::take(&mut self.outside.borrow_mut().published);
        let (ids, names): (Vec<_>, Vec<_>) = published.into_iter().unzip();
        self.report(Availability::Ok, 1, ids.into_iter().map(Receipt::Stored).collect());
        names
    }

    /// Lets time pass in ticks.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 100 {
            self.leap(100);
        }
    }

    /// Lets time pass without a tick until its end.
    fn leap(&mut self, ms: u64) {
        self.now = Now { unix_ms: self.now.unix_ms + ms, us: self.now.us + ms * 1_000 };
        self.core.tick(self.now);
    }

    fn outcomes(&self) -> Vec<(u64, Option<Code>)> {
        std::mem::take(&mut self.outside.borrow_mut().outcomes)
    }

    /// Drains to the end, with a queue that answers or does not.
    fn drain(&mut self, answers: bool) -> Drained {
        loop {
            match self.core.drain_step(self.now) {
                DrainProgress::Over(drained) => return drained,
                DrainProgress::Continues { at_us } => {
                    let us = at_us - self.now.us;
                    self.now = Now { unix_ms: self.now.unix_ms + us / 1_000, us: at_us };
                }
            }
            let barriers = std::mem::take(&mut self.outside.borrow_mut().barriers);
            barriers.into_iter().for_each(|number| self.event(DownlinkEvent::BarrierReached(number)));
            if answers {
                self.store_all();
            }
            let sessions: Vec<SlotId> = self.core.sessions().collect();
            for session in sessions {
                if self.core.ending(session).is_some() {
                    self.core.closed(self.now, session);
                }
            }
        }
    }
}

fn publish(device: &str, id: u8) -> Vec<u8> {
    let (topic, body) = (format!("/product1/{device}/properties/report"), br#"{"properties":{"n":1}}"#);
    let mut packet = vec![0x32, u8::try_from(2 + topic.len() + 2 + body.len()).expect("it is short")];
    packet.extend([0, u8::try_from(topic.len()).expect("it is short")]);
    packet.extend(topic.as_bytes());
    packet.extend([0, id]);
    packet.extend(body);
    packet
}

#[test]
fn a_message_is_acknowledged_when_the_queue_has_it_and_not_before() {
    let mut rig = Rig::new();
    let (session, pipe) = rig.session("device1");
    let packet = publish("device1", 7);
    assert_eq!(rig.read(session, &packet), Some(packet.len()));
    assert_eq!(pipe.take(), b"");
    assert_eq!(rig.store_all(), ["device.properties.report"]);
    assert_eq!(pipe.take(), [0x40, 2, 0, 7]);
}

#[test]
fn a_device_with_a_full_window_is_not_read_until_the_queue_answers() {
    let mut rig = Rig::new();
    let (session, pipe) = rig.session("device1");
    let packets = [publish("device1", 1), publish("device1", 2), publish("device1", 3), vec![0xc0, 0]].concat();
    let taken = rig.read(session, &packets).expect("it is read");
    assert_eq!(taken, 2 * publish("device1", 1).len());
    assert_eq!(rig.read(session, b""), None, "two records are on their way");
    assert_eq!(pipe.take(), [0xd0, 0], "the queue is slow, and the bridge is there");
    rig.store_all();
    assert_eq!(pipe.take(), [0x40, 2, 0, 1, 0x40, 2, 0, 2]);
    assert_eq!(rig.read(session, b""), Some(0));
    rig.store_all();
    assert_eq!(pipe.take(), [0x40, 2, 0, 3]);
}

#[test]
fn what_is_not_stored_is_sent_once_more_in_each_epoch_in_the_order_of_sessions() {
    let mut rig = Rig::new();
    let sessions = ["device2", "device1"].map(|device| rig.session(device).0);
    for session in sessions.into_iter().rev() {
        let device = if session == sessions[0] { "device2" } else { "device1" };
        rig.read(session, &publish(device, 1));
    }
    rig.outside.borrow_mut().published.clear();
    rig.report(Availability::Away, 1, Vec::new());
    assert!(rig.outside.borrow().published.is_empty());
    rig.report(Availability::Ok, 2, Vec::new());
    let slots = |rig: &Rig| rig.outside.borrow().published.iter().map(|(id, _)| id.slot).collect::<Vec<_>>();
    assert_eq!(slots(&rig), sessions);
    rig.report(Availability::Ok, 2, Vec::new());
    assert_eq!(slots(&rig).len(), 2, "the epoch is the same");
}

#[test]
fn a_newer_connect_ends_the_session_of_the_device_and_one_that_was_about_to_begin() {
    let mut rig = Rig::new();
    let (older, _) = rig.session("device1");
    let newer = rig.claim("device1");
    assert_eq!(rig.core.ending(older), Some(Ending::TakenOver));
    let newest = rig.claim("device1");
    assert!(!rig.core.begin(rig.now, newer, TransportKind::Tcp, Pipe::default(), Vec::new()));
    assert!(rig.core.begin(rig.now, newest, TransportKind::Tcp, Pipe::default(), Vec::new()));
    assert_eq!(rig.outside.borrow().detached, [older, newer]);
    rig.core.closed(rig.now, older);
    assert_eq!(rig.core.sessions().collect::<Vec<_>>(), [newest]);
    assert_eq!(rig.store_all(), ["device.online"]);
    assert!(rig.messages.try_recv().is_err(), "all of them are of this worker");
}

#[test]
fn a_session_that_is_told_to_end_before_it_began_ends_at_once_and_says_so() {
    let mut rig = Rig::new();
    let session = rig.claim("device1");
    rig.core.message(rig.now, WorkerMessage::End(session, Ending::Kicked));
    assert!(rig.core.begin(rig.now, session, TransportKind::Tcp, Pipe::default(), Vec::new()));
    assert_eq!(rig.core.ending(session), Some(Ending::Kicked));
    assert_eq!(rig.outside.borrow().detached, [session]);
}

#[test]
fn a_command_that_comes_before_its_session_is_written_behind_connack() {
    let mut rig = Rig::new();
    let (session, pipe) = (rig.claim("device1"), Pipe::default());
    rig.command(Recipient::Session(session), 1);
    assert_eq!((pipe.take(), rig.outcomes()), (vec![], vec![]));
    assert!(rig.core.begin(rig.now, session, TransportKind::Tcp, pipe.clone(), Vec::new()));
    let sent = pipe.take();
    assert!(sent.starts_with(CONNACK) && sent[CONNACK.len()] == 0x30, "{sent:?}");
    rig.command(Recipient::Session(SlotId { generation: 9, ..session }), 2);
    rig.command(Recipient::Device(DeviceId::new("device2").expect("a valid id")), 3);
    rig.command(Recipient::Ended, 4);
    let refused = [Code::ConnectionLost, Code::ClientOffline, Code::ConnectionLost].map(Some);
    assert_eq!(rig.outcomes().into_iter().map(|(_, code)| code).collect::<Vec<_>>(), refused);
}

#[test]
fn a_command_without_a_reply_ends_at_its_deadline_also_when_its_session_was_taken_over() {
    let mut rig = Rig::new();
    let (session, _pipe) = rig.session("device1");
    rig.command(Recipient::Session(session), 1);
    rig.pass(4_900);
    assert_eq!(rig.outcomes(), []);
    rig.pass(100);
    assert_eq!(rig.outcomes(), [(1, Some(Code::TimeOut))]);

    rig.command(Recipient::Device(DeviceId::new("device1").expect("a valid id")), 2);
    rig.claim("device1");
    rig.pass(4_900);
    assert_eq!(rig.outcomes(), []);
    rig.pass(100);
    assert_eq!(rig.outcomes(), [(2, Some(Code::TimeOut))]);
}

#[test]
fn after_a_suspension_no_command_is_delivered_until_claims_and_commands_have_caught_up() {
    let mut rig = Rig::new();
    let (session, pipe) = rig.session("device1");
    rig.pass(100);
    while rig.cluster_events.try_recv().is_ok() {}
    rig.leap(3_000);
    assert_eq!(rig.cluster_events.try_recv(), Ok(ClusterEvent::AwaitBarrier { worker: 0 }));
    rig.command(Recipient::Session(session), 1);
    assert_eq!((rig.outcomes(), pipe.take()), (vec![(1, Some(Code::TimeOut))], vec![]));
    rig.core.message(rig.now, WorkerMessage::BarrierReached { settled_us: 0 });
    rig.pass(100);
    rig.command(Recipient::Session(session), 2);
    assert_eq!(rig.outcomes(), [(2, Some(Code::TimeOut))], "the barrier is not back");
    let barriers = rig.outside.borrow().barriers.clone();
    barriers.into_iter().for_each(|number| rig.event(DownlinkEvent::BarrierReached(number)));
    rig.pass(100);
    rig.command(Recipient::Session(session), 3);
    assert_eq!(rig.outcomes(), []);
    assert_eq!(pipe.take().first(), Some(&0x30));
}

#[test]
fn time_in_which_nothing_was_read_is_no_silence_of_the_device() {
    let mut rig = Rig::new();
    let (session, _pipe) = rig.session("device1");
    rig.pass(1_000);
    rig.leap(120_000);
    rig.pass(1_000);
    assert_eq!(rig.core.ending(session), None);
    rig.pass(90_000);
    assert_eq!(rig.core.ending(session), Some(Ending::KeepAlive));
}

#[test]
fn a_drain_ends_when_the_last_offline_is_stored() {
    let mut rig = Rig::new();
    let (first, _pipe) = rig.session("device1");
    let (second, _pipe) = rig.session("device2");
    rig.core.lost(rig.now, first);
    rig.core.message(rig.now, WorkerMessage::Drain { per_second: 1_000 });
    assert_eq!(rig.drain(true), Drained { unacknowledged: 0 });
    assert_eq!((rig.core.ending(second), rig.core.sessions().count()), (None, 0));
    assert_eq!(rig.core.environment().load.held_records, 0);
}

#[test]
fn a_drain_that_the_queue_does_not_answer_tells_how_many_records_are_left() {
    let mut rig = Rig::new();
    let (session, _pipe) = rig.session("device1");
    rig.core.lost(rig.now, session);
    rig.core.message(rig.now, WorkerMessage::Drain { per_second: 1_000 });
    let begun_us = rig.now.us;
    assert_eq!(rig.drain(false), Drained { unacknowledged: 1 });
    assert_eq!(rig.now.us - begun_us, 8_020_000, "the rest of its time is for commands, and none is under way");
}

#[test]
fn a_device_that_does_not_read_gets_no_more_commands_than_there_is_room_for() {
    let mut rig = Rig::new();
    let (session, pipe) = rig.session("device1");
    pipe.is_full.set(true);
    for ticket in 1..=2 {
        let command = format!(
            r#"{{"messageType":"WRITE_PROPERTY","productId":"product1","deviceId":"device1","properties":{{"a":"{}"}}}}"#,
            "x".repeat(150_000)
        );
        let (to, command) = (Recipient::Session(session), Command::from_json(command.as_bytes()));
        rig.event(DownlinkEvent::Command { to, ticket: Some(Ticket(ticket)), command });
    }
    assert_eq!(rig.outcomes(), [(2, Some(Code::SystemBusy))]);
    assert!(rig.core.environment().load.buffered_bytes >= 150_000 - Limits::FREE_BYTES);
    rig.claim("device1");
    assert_eq!(rig.outcomes(), [(1, Some(Code::ConnectionLost))], "nothing of it was written");
    rig.core.closed(rig.now, session);
    assert_eq!(rig.core.environment().load.buffered_bytes, 0);
}

#[test]
fn sessions_are_shed_in_turn_and_only_when_what_they_sent_is_acknowledged() {
    let mut rig = Rig::new();
    let sessions = ["device1", "device2", "device3"].map(|device| rig.session(device));
    let (first, pipe) = &sessions[0];
    rig.read(*first, &publish("device1", 1));
    let staying = |rig: &Rig| rig.core.replica().directory.staying();
    rig.core.message(rig.now, WorkerMessage::Shed { count: 2 });
    let endings = |rig: &Rig| [0, 1, 2].map(|at| rig.core.ending(sessions[at].0));
    assert_eq!(
        (endings(&rig), staying(&rig)),
        ([None, Some(Ending::Shed), None], 1),
        "the first waits for its receipt"
    );
    assert_eq!(rig.read(*first, &publish("device1", 2)), None);
    rig.store_all();
    assert_eq!(pipe.take(), [PUBACK, &[0, 1]].concat());
    assert_eq!((endings(&rig), staying(&rig)), ([Some(Ending::Shed), Some(Ending::Shed), None], 1));
    sessions[..2].iter().for_each(|(session, _)| rig.core.closed(rig.now, *session));
    rig.store_all();
    // Whoever comes back is not the next to go.
    let (back, _pipe) = rig.session("device1");
    assert_eq!(staying(&rig), 2);
    rig.core.message(rig.now, WorkerMessage::Shed { count: 1 });
    assert_eq!((endings(&rig)[2], rig.core.ending(back)), (Some(Ending::Shed), None));
    rig.core.message(rig.now, WorkerMessage::Shed { count: 100 });
    assert_eq!((rig.core.ending(back), staying(&rig)), (Some(Ending::Shed), 0));
}

#[test]
fn nobody_is_sent_away_while_every_connect_is_refused() {
    let mut rig = Rig::new();
    let (session, _pipe) = rig.session("device1");
    rig.report(Availability::Away, 1, Vec::new());
    rig.pass(100);
    rig.leap(AGE_US / 1_000 * 2);
    rig.pass(2_000);
    rig.core.message(rig.now, WorkerMessage::Shed { count: 1 });
    assert_eq!(rig.core.ending(session), None);
    rig.report(Availability::Ok, 2, Vec::new());
    rig.pass(1_000);
    assert_eq!(rig.core.ending(session), Some(Ending::Age), "it is as old as it was before");
}

#[test]
fn a_session_ends_within_a_tenth_of_its_longest_age() {
    let mut rig = Rig::new();
    let (session, _pipe) = rig.session("device1");
    rig.pass(100);
    rig.leap(AGE_US / 1_000 * 9 / 10 - 1_200);
    rig.pass(1_000);
    assert_eq!(rig.core.ending(session), None);
    rig.leap(AGE_US / 1_000 / 5);
    rig.pass(1_200);
    assert_eq!(rig.core.ending(session), Some(Ending::Age));
    assert_eq!(rig.store_all(), ["device.offline"]);
}

#[test]
fn what_is_half_read_counts_until_it_is_whole() {
    let mut rig = Rig::new();
    let (session, _pipe) = rig.session("device1");
    let packet = publish("device1", 1);
    assert_eq!(rig.read(session, &packet[..10]), Some(0));
    assert_eq!(rig.core.environment().load.buffered_bytes, 0, "a little of it is free");
    assert_eq!(rig.read(session, &packet[10..]), Some(0));
    assert_eq!(rig.store_all(), Vec::<String>::new(), "it is taken in with the next look");
    assert_eq!(rig.read(session, b""), Some(0));
    assert_eq!(rig.store_all(), ["device.properties.report"]);
}
