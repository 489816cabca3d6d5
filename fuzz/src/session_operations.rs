//! Sequences of operations on one session, and the promises that hold whatever the sequence is:
//!
//! - what is acknowledged to the device is stored, and acknowledgements come in the order of the messages;
//! - by last copies, what was acknowledged is stored in the order in which the device sent it;
//! - what a session holds is bounded, and counted exactly;
//! - a command gets at most one outcome, and has one when the session has ended;
//! - nothing is said to the device after the end; the session goes once its last records are stored.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jetlinks_bridge::codec::mqtt::{self, Packet, PacketId, Publish, PublishHead, Qos, Version, encode};
use jetlinks_bridge::protocol::command::{Command, CommandError};
use jetlinks_bridge::protocol::id::{DeviceId, ProductId};
use jetlinks_bridge::protocol::uplink::SlotId;
use jetlinks_bridge::session::mqtt::{BoundChild, Context, Ending, Opening, Session, StoredWill};

use super::operations::{Form, Operation, Operations};
use super::world::World;

/// Children that are bound to a gateway.
const CHILDREN: usize = 2;

/// Slot of the session.
const SLOT: SlotId = SlotId { index: 3, generation: 5 };

/// Records that a session may hold beside its window: `online`, the will, `offline`, and the same of its children.
const OWN_RECORDS: usize = 3 + 2 * CHILDREN;

/// Runs the operations that the bytes stand for.
pub fn check(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let mut run = Run::new(first);
    for operation in Operations(rest) {
        run.apply(operation);
        run.judge();
    }
    run.finish();
}

/// A message that the device is owed an acknowledgement of.
struct Owed {
    number: u32,
    packet_id: PacketId,
    qos: Qos,
    /// Whether it owes the queue a record.
    has_record: bool,
}

struct Run {
    world: World,
    session: Session,
    /// Messages so far, the will included.
    messages: u32,
    owed: VecDeque<Owed>,
    acknowledged: Vec<u32>,
    /// Those of them that the queue has a record of.
    acknowledged_records: Vec<u32>,
    /// QoS 2 messages that the device has not released.
    open: BTreeMap<PacketId, u32>,
    /// Packet ids and message ids of commands that the device was sent.
    received: Vec<(Option<PacketId>, String)>,
    had_ended: bool,
}

impl Run {
    fn new(first: u8) -> Self {
        let mut world = World::default();
        world.queue.is_away = first & 1 == 1;
        let has_will = first & 2 == 2;
        let will = StoredWill { topic: "/product1/device1/event/~0~".into(), payload: b"{}".as_slice().into() };
        let opening = Opening {
            slot: SLOT,
            product: ProductId::new("product1").expect("an id"),
            device: DeviceId::new("device1").expect("an id"),
            id: "01JDA0Z6W3000000000000000S".into(),
            version: if first & 4 == 4 { Version::V31 } else { Version::V311 },
            keep_alive_secs: u16::from(first >> 4),
            will: has_will.then_some(will),
            children: if first & 8 == 8 { children() } else { Box::default() },
            peer: "192.0.2.1:40000",
        };
        let session = world.with(|ctx| Session::start(opening, ctx));
        Self {
            world,
            session,
            messages: 0,
            owed: VecDeque::new(),
            acknowledged: Vec::new(),
            acknowledged_records: Vec::new(),
            open: BTreeMap::new(),
            received: Vec::new(),
            had_ended: false,
        }
    }

    fn act<R>(&mut self, act: impl FnOnce(&mut Session, &mut Context<'_>) -> R) -> R {
        self.world.with(|ctx| act(&mut self.session, ctx))
    }

    fn apply(&mut self, operation: Operation) {
        // A transport asks before each packet.
        let is_read = self.session.wants_input(&self.world.limits, &self.world.load);
        if is_read && !matches!(operation, Operation::Pass(_)) {
            self.session.heard(self.world.now.us);
        }
        match operation {
            Operation::Publish(qos, form) if is_read => self.publish(qos, form),
            Operation::Repeat(index) if is_read => self.repeat(index),
            Operation::Release(index) if is_read => {
                if let Some(packet_id) = nth(self.open.keys(), index).copied() {
                    self.open.remove(&packet_id);
                    self.act(|session, ctx| session.packet(Packet::Pubrel(packet_id), ctx));
                }
            }
            Operation::Ping if is_read => self.act(|session, ctx| session.packet(Packet::Pingreq, ctx)),
            Operation::Ping => self.act(|session, ctx| session.ping(ctx)),
            Operation::Subscribe(qos) if is_read => {
                let mut bytes = Vec::new();
                encode::subscribe(&mut bytes, PacketId::MAX, &[("/product1/device1/#", qos), ("/#", qos)]);
                self.packet(&bytes);
            }
            // Packet id 1, one filter.
            Operation::Unsubscribe if is_read => self.packet(b"\xa2\x17\x00\x01\x00\x13/product1/device1/#"),
            Operation::Puback(index) if is_read => {
                if let Some((Some(packet_id), _)) = nth(self.received.iter(), index).cloned() {
                    self.act(|session, ctx| session.packet(Packet::Puback(packet_id), ctx));
                }
            }
            Operation::Reply(index) if is_read => {
                if let Some((_, message_id)) = nth(self.received.iter(), index).cloned() {
                    let number = self.number();
                    let payload = format!(r#"{{"messageId":"{message_id}","properties":{{"n":"~{number}~"}}}}"#);
                    self.send(Qos::AtMostOnce, "properties/read/reply", number, Some(payload.as_bytes()), false);
                }
            }
            Operation::Command(bits) => self.command(bits),
            Operation::Store(count) => {
                for _ in 0..count {
                    if !self.world.queue.store(true) {
                        break;
                    }
                }
            }
            Operation::StoreSilently => drop(self.world.queue.store(false)),
            Operation::Lose => self.world.queue.lose(),
            Operation::Deliver(index) => self.deliver(index.into()),
            Operation::Away(loses_line) => self.world.queue.leave(loses_line),
            Operation::Back => self.back(),
            Operation::Pass(tenths) => {
                self.world.pass(tenths.into());
                self.act(|session, ctx| session.expire(ctx));
                self.act(|session, ctx| session.tick(ctx));
            }
            Operation::Drain => self.act(|session, ctx| session.drain(Ending::Drained, ctx)),
            Operation::End(ending) => self.act(|session, ctx| session.end(ending, ctx)),
            // Nobody reads from the device at present.
            _ => {}
        }
    }

    fn number(&mut self) -> u32 {
        self.messages += 1;
        self.messages
    }

    fn publish(&mut self, qos: Qos, form: Form) {
        let number = self.number();
        let (suffix, payload) = match form {
            Form::Event => (format!("event/~{number}~"), Some(&b"{\"data\":1}"[..])),
            Form::Broken => (format!("event/~{number}~"), Some(&b"{\"timestamp\":[]}"[..])),
            Form::Unknown => (format!("nosuch/~{number}~"), Some(&b"{}"[..])),
            Form::TooLarge => (format!("event/~{number}~"), None),
            Form::TimeSync => ("time-sync".to_owned(), Some(&b"{\"messageId\":\"1\"}"[..])),
            Form::Foreign => ("../device2/log".to_owned(), Some(&b"{}"[..])),
        };
        if form == Form::Foreign {
            let head = PublishHead {
                dup: false,
                qos: Qos::AtMostOnce,
                retain: false,
                topic: "/product1/device2/log",
                packet_id: None,
            };
            self.act(|session, ctx| session.packet(Packet::Publish(Publish { head, payload: b"{}" }), ctx));
            assert_eq!(self.session.ending(), Some(Ending::ProtocolError));
            return;
        }
        self.send(qos, &suffix, number, payload, form != Form::TimeSync);
    }

    fn send(&mut self, qos: Qos, suffix: &str, number: u32, payload: Option<&[u8]>, has_record: bool) {
        let packet_id = (qos != Qos::AtMostOnce).then(|| packet_id(number));
        if let Some(packet_id) = packet_id {
            self.owed.push_back(Owed { number, packet_id, qos, has_record });
            if qos == Qos::ExactlyOnce {
                self.open.insert(packet_id, number);
            }
        }
        let topic = format!("/product1/device1/{suffix}");
        let head = PublishHead { dup: false, qos, retain: false, topic: &topic, packet_id };
        self.act(|session, ctx| session.publish(&head, payload, ctx));
    }

    /// A QoS 2 message that was not released is not taken in twice.
    fn repeat(&mut self, index: u8) {
        let Some((&packet_id, &number)) = nth(self.open.iter(), index) else { return };
        let held = (self.session.in_flight(), self.world.queue.taken.len());
        let topic = format!("/product1/device1/event/~{number}~");
        let head =
            PublishHead { dup: true, qos: Qos::ExactlyOnce, retain: false, topic: &topic, packet_id: Some(packet_id) };
        self.act(|session, ctx| session.packet(Packet::Publish(Publish { head, payload: b"{}" }), ctx));
        assert_eq!((self.session.in_flight(), self.world.queue.taken.len()), held, "taken in twice");
    }

    fn packet(&mut self, bytes: &[u8]) {
        let frame = mqtt::frame(bytes).ok().flatten().expect("a whole packet");
        assert_eq!(frame.total_bytes(), bytes.len());
        let packet = mqtt::decode(Version::V311, frame.first_byte, &bytes[frame.header_bytes..]).expect("a packet");
        self.act(|session, ctx| session.packet(packet, ctx));
    }

    fn command(&mut self, bits: u8) {
        let ticket = (bits & 1 == 0).then(|| self.world.callers.ask());
        let is_unreadable = bits & 0xf0 == 0xf0;
        let command = if is_unreadable {
            Err(CommandError::unreadable("no command"))
        } else if bits & 0xf0 == 0xe0 {
            Command::from_subject("product1.device1.disconnect", b"")
        } else {
            let id = if bits & 2 == 2 { r#""messageId":"twice","# } else { "" };
            let (is_async, forgets) = (bits & 4 == 4, bits & 8 == 8);
            let timeout_ms = 500 + u32::from(bits >> 4) * 500;
            let body = format!(
                r#"{{{id}"properties":["a"],"headers":{{"async":{is_async},"sendAndForget":{forgets},"timeout":{timeout_ms}}}}}"#
            );
            Command::from_subject("product1.device1.properties.read", body.as_bytes())
        };
        assert!(is_unreadable || command.is_ok());
        self.act(|session, ctx| session.command(ticket, command, ctx));
    }

    fn deliver(&mut self, index: usize) {
        let Some((id, stored)) = self.world.queue.receipt(index) else { return };
        assert_eq!(id.slot, SLOT);
        self.session.receipt(id.sequence, stored, self.world.now.us);
        self.act(|session, ctx| session.acknowledge(ctx));
    }

    fn back(&mut self) {
        self.world.queue.is_away = false;
        self.act(|session, ctx| session.resend(ctx));
    }

    /// Checks the rules that hold after every operation.
    fn judge(&mut self) {
        let sent = std::mem::take(&mut self.world.sent);
        assert!(!self.had_ended || sent.is_empty(), "something was said after the end");
        let stored: BTreeSet<u32> = self.world.queue.stored.iter().copied().flatten().collect();
        let mut rest = &sent[..];
        while !rest.is_empty() {
            let frame = mqtt::frame(rest).ok().flatten().expect("whole packets are sent");
            let body = &rest[frame.header_bytes..frame.total_bytes()];
            match mqtt::decode(Version::V311, frame.first_byte, body).expect("packets that can be read are sent") {
                Packet::Puback(packet_id) => self.settle(packet_id, Qos::AtLeastOnce, &stored),
                Packet::Pubrec(packet_id) => self.settle(packet_id, Qos::ExactlyOnce, &stored),
                Packet::Publish(publish) if publish.head.topic.ends_with("/properties/read") => {
                    let body: serde_json::Value = serde_json::from_slice(publish.payload).expect("a body is JSON");
                    let message_id = body["messageId"].as_str().expect("a message id").to_owned();
                    self.received.push((publish.head.packet_id, message_id));
                }
                _ => {}
            }
            rest = &rest[frame.total_bytes()..];
        }
        let (session, world) = (&self.session, &self.world);
        assert!(session.in_flight() <= world.limits.inflight_per_connection + OWN_RECORDS, "the window has no bound");
        assert_eq!(world.load.held_records, session.in_flight());
        assert!(session.in_flight() > 0 || world.load.held_bytes == 0, "bytes are held for nothing");
        assert!(session.command_deadlines().count() <= world.limits.commands_per_device);
        assert_eq!(world.load.commands, session.command_deadlines().count());
        if session.ending().is_none() {
            // A session that ends before its `online` was handed over withdraws it.
            let is_first = world.queue.taken.first().is_none_or(Option::is_none);
            assert!(is_first, "something came before `online`");
        }
        self.note_end();
    }

    fn note_end(&mut self) {
        if self.session.ending().is_none() || self.had_ended {
            return;
        }
        self.had_ended = true;
        for pending in self.session.take_pending() {
            // As the worker does for a session that was taken over, when their time is over.
            assert_eq!(self.session.ending(), Some(Ending::TakenOver));
            self.act(|_, ctx| ctx.expire(pending));
        }
    }

    fn settle(&mut self, packet_id: PacketId, qos: Qos, stored: &BTreeSet<u32>) {
        if qos == Qos::ExactlyOnce
            && let Some(number) = self.open.get(&packet_id)
            && self.acknowledged.contains(number)
        {
            // The answer to a repetition.
            return;
        }
        let owed = self.owed.pop_front().expect("nothing is acknowledged that was not sent");
        assert_eq!((owed.packet_id, owed.qos), (packet_id, qos), "acknowledged out of order");
        if owed.has_record {
            assert!(stored.contains(&owed.number), "message {} is acknowledged and not stored", owed.number);
            self.acknowledged_records.push(owed.number);
        }
        self.acknowledged.push(owed.number);
    }

    /// The queue comes back, stores everything and says so.
    fn settle_all(&mut self) {
        self.back();
        while self.world.queue.store(true) {}
        while let Some((id, stored)) = self.world.queue.receipt(0) {
            self.session.receipt(id.sequence, stored, self.world.now.us);
        }
        self.act(|session, ctx| session.acknowledge(ctx));
        self.judge();
    }

    fn finish(mut self) {
        self.settle_all();
        if self.session.ending().is_none() {
            assert!(self.owed.is_empty(), "all is stored, and not all is acknowledged");
            assert_eq!(self.session.in_flight(), 0);
            self.act(|session, ctx| session.end(Ending::ConnectionLost, ctx));
            self.judge();
        }
        self.settle_all();
        assert!(self.session.is_finished(), "all is stored, and the session stays");
        assert_eq!((self.world.load.held_bytes, self.world.load.held_records, self.world.load.commands), (0, 0, 0));
        assert_eq!(self.world.callers.answered(), self.world.callers.asked, "a command has no outcome");
        let queue = &self.world.queue;
        if self.session.ending() != Some(Ending::TakenOver) {
            assert_eq!(queue.stored.last(), Some(&None), "something came after `offline`");
        }
        let last_copy = |number: &u32| queue.stored.iter().rposition(|stored| *stored == Some(*number));
        let acknowledged = &self.acknowledged_records;
        let places: Vec<_> = acknowledged.iter().map(last_copy).collect();
        assert!(places.iter().all(Option::is_some));
        assert!(places.is_sorted(), "by last copies the order is not that of the device: {acknowledged:?}");
    }
}

fn children() -> Box<[BoundChild]> {
    let child = |number| BoundChild {
        id: DeviceId::new(&format!("child{number}")).expect("an id"),
        product: ProductId::new("product2").expect("an id"),
    };
    (0..CHILDREN).map(child).collect()
}

/// Packet ids are not used again within a run.
fn packet_id(number: u32) -> PacketId {
    u16::try_from(number).ok().and_then(PacketId::new).unwrap_or(PacketId::MAX)
}

fn nth<T>(items: impl ExactSizeIterator<Item = T>, index: u8) -> Option<T> {
    let index = usize::from(index).checked_rem(items.len())?;
    let mut items = items;
    items.nth(index)
}
