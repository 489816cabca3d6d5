//! A session and its world, for tests; the test owns the clock.

use bytes::Bytes;

use super::{BoundChild, Context, Ending, Event, Observer, Opening, Session, SpareBuffers, StoredWill};
use crate::codec::mqtt::{self, Packet, PacketId, Publish, PublishHead, Qos, Version};
use crate::protocol::command::MessageIds;
use crate::protocol::downlink::{Downlink, Outcome, Ticket};
use crate::protocol::envelope::Encoder;
use crate::protocol::id::{DeviceId, ProductId};
use crate::protocol::limit::{Limits, Load, Now};
use crate::protocol::trace::fake;
use crate::protocol::uplink::{Channel, Record, RecordRefusal, SlotId};
use crate::session::fake::{FakeRegistry, FakeUplink, encoder, field, limits, parse};
use crate::session::step::Step;

pub(crate) fn record(payload: &str) -> Record {
    Record {
        channel: Channel::Device,
        address: Bytes::from_static(b"device1"),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        attributes: Vec::new(),
        recorded_ms: 0,
        trace: None,
    }
}

/// Bytes that a caller holds.
pub(crate) const CALLER_BYTES: usize = 100;

/// Outcomes that callers got.
#[derive(Debug, Default)]
pub(crate) struct FakeDownlink {
    pub(crate) outcomes: Vec<(Ticket, Outcome)>,
}

impl Downlink for FakeDownlink {
    fn attach(&mut self, _: SlotId, _: &[(ProductId, DeviceId)]) {}

    fn detach(&mut self, _: SlotId) {}

    fn held_bytes(&self, _: Ticket) -> usize {
        CALLER_BYTES
    }

    fn answer(&mut self, ticket: Ticket, outcome: Outcome) {
        self.outcomes.push((ticket, outcome));
    }
}

/// Events and steps, as text.
#[derive(Debug, Default)]
struct FakeObserver {
    events: Vec<String>,
    steps: Vec<String>,
}

impl Observer for FakeObserver {
    fn event(&mut self, event: Event<'_>) {
        self.events.push(format!("{event:?}"));
    }

    fn step(&mut self, step: &Step<'_>) {
        self.steps.push(format!("{} {:?}", step.about, step.action));
    }
}

/// A session and its world; the test owns the clock.
pub(crate) struct Rig {
    pub(crate) session: Session,
    pub(crate) world: World,
}

/// All fakes and settings around the session.
pub(crate) struct World {
    pub(crate) now: Now,
    pub(crate) limits: Limits,
    pub(crate) load: Load,
    pub(crate) uplink: FakeUplink,
    pub(crate) downlink: FakeDownlink,
    pub(crate) sent: Vec<u8>,
    pub(crate) is_followed: bool,
    encoder: Encoder,
    observer: FakeObserver,
    message_ids: MessageIds,
    pub(crate) spare_buffers: SpareBuffers,
}

impl World {
    fn with<R>(&mut self, act: impl FnOnce(&mut Context<'_>) -> R) -> R {
        self.encoder.set_now(self.now.unix_ms);
        act(&mut Context {
            now: self.now,
            limits: &self.limits,
            load: &mut self.load,
            encoder: &mut self.encoder,
            uplink: &mut self.uplink,
            downlink: &mut self.downlink,
            children: &FakeRegistry,
            observer: &mut self.observer,
            is_followed: self.is_followed,
            send: &mut self.sent,
            message_ids: &mut self.message_ids,
            spare_buffers: &mut self.spare_buffers,
        })
    }
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with_will(Version::V311, None)
    }

    pub(crate) fn with_will(version: Version, will: Option<StoredWill>) -> Self {
        Self::with(version, will, Vec::new())
    }

    pub(crate) fn with(version: Version, will: Option<StoredWill>, children: Vec<BoundChild>) -> Self {
        Self::open("01JDA0Z6W30000000000000000", version, will, children)
    }

    /// A rig whose session has that id.
    pub(crate) fn named(id: &str) -> Self {
        Self::open(id, Version::V311, None, Vec::new())
    }

    fn open(id: &str, version: Version, will: Option<StoredWill>, children: Vec<BoundChild>) -> Self {
        let mut world = World {
            now: Now { unix_ms: 1_700_000_000_000, us: 1_000_000 },
            limits: limits(),
            load: Load::default(),
            uplink: FakeUplink::default(),
            downlink: FakeDownlink::default(),
            sent: Vec::new(),
            is_followed: true,
            encoder: encoder(),
            observer: FakeObserver::default(),
            message_ids: MessageIds::new(1024, 0, 1),
            spare_buffers: SpareBuffers::default(),
        };
        let opening = Opening {
            slot: SlotId { index: 0, generation: 0 },
            product: ProductId::new("product1").expect("valid"),
            device: DeviceId::new("device1").expect("valid"),
            id: id.into(),
            version,
            keep_alive_secs: 60,
            will,
            children: children.into(),
            peer: "127.0.0.1:40000",
        };
        let session = world.with(|ctx| Session::start(opening, ctx));
        Self { session, world }
    }

    /// A settled rig that samples that share of the traces which begin in it, and the spans that have ended.
    pub(crate) fn traced(share: f64) -> (Self, fake::Ended) {
        let mut rig = Self::settled();
        let (tracer, ended) = fake::tracer(share);
        rig.world.encoder.tracer = tracer;
        (rig, ended)
    }

    /// A rig whose `online` is stored and whose CONNACK was read.
    pub(crate) fn settled() -> Self {
        let mut rig = Self::new();
        rig.store_all();
        rig.world.sent.clear();
        rig
    }

    pub(crate) fn act<R>(&mut self, act: impl FnOnce(&mut Session, &mut Context<'_>) -> R) -> R {
        self.world.with(|ctx| act(&mut self.session, ctx))
    }

    pub(crate) fn publish(&mut self, suffix: &str, payload: &str, qos: Qos, id: u16) {
        let topic = format!("/product1/device1/{suffix}");
        let packet_id = (qos != Qos::AtMostOnce).then(|| PacketId::new(id).expect("above 0"));
        let head = PublishHead { dup: false, qos, retain: false, topic: &topic, packet_id };
        let packet = Packet::Publish(Publish { head, payload: payload.as_bytes() });
        self.act(|session, ctx| session.packet(packet, ctx));
    }

    /// A report that counts `n`.
    pub(crate) fn report(&mut self, n: u16, qos: Qos) {
        self.publish("properties/report", &format!(r#"{{"properties":{{"n":{n}}}}}"#), qos, n);
    }

    pub(crate) fn receipt(&mut self, index: usize, stored: bool) {
        let sequence = self.world.uplink.sequence(index);
        self.session.receipt(sequence, stored, self.world.now.us);
        self.act(|session, ctx| session.acknowledge(ctx));
    }

    /// A refusal by the queue of a record, by its index among all that were published.
    pub(crate) fn refuse(&mut self, index: usize, refusal: &RecordRefusal) {
        let sequence = self.world.uplink.sequence(index);
        self.act(|session, ctx| session.refused(sequence, refusal, ctx));
    }

    pub(crate) fn store_all(&mut self) {
        for index in 0..self.world.uplink.published.len() {
            self.session.receipt(self.world.uplink.sequence(index), true, self.world.now.us);
        }
        self.act(|session, ctx| session.acknowledge(ctx));
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        self.world.now.us += seconds * 1_000_000;
        self.world.now.unix_ms += seconds * 1_000;
        self.act(|session, ctx| session.tick(ctx));
    }

    /// Packets sent to the device since the last call: their first bytes and ids.
    pub(crate) fn sent(&mut self) -> Vec<(u8, u16)> {
        let bytes = std::mem::take(&mut self.world.sent);
        let mut rest = &bytes[..];
        let mut packets = Vec::new();
        while let Some(frame) = mqtt::frame(rest).expect("well formed") {
            let body = &rest[frame.header_bytes..frame.total_bytes()];
            let id = match mqtt::decode(Version::V311, frame.first_byte, body).expect("well formed") {
                Packet::Publish(publish) => publish.head.packet_id.map_or(0, PacketId::get),
                Packet::Connack(_, code) => u16::from(code),
                Packet::Pingresp => 0,
                _ => u16::from_be_bytes([body[0], body[1]]),
            };
            packets.push((frame.first_byte, id));
            rest = &rest[frame.total_bytes()..];
        }
        packets
    }

    /// The `type` of every envelope so far, without `org.jetlinks.`.
    pub(crate) fn types(&self) -> Vec<String> {
        let envelopes = self.world.uplink.published.iter().map(|(_, record)| parse(&record.payload));
        envelopes.map(|envelope| field(&envelope, "type").trim_start_matches("org.jetlinks.").to_owned()).collect()
    }

    pub(crate) fn ending(&self) -> Option<Ending> {
        self.session.ending()
    }

    /// Device and name of each step since the last call.
    pub(crate) fn steps(&mut self) -> Vec<String> {
        let steps = std::mem::take(&mut self.world.observer.steps);
        let name = |step: &String| step.split([' ', '(']).take(2).collect::<Vec<_>>().join(" ");
        steps.iter().map(name).collect()
    }

    pub(crate) fn events(&self, name: &str) -> usize {
        self.world.observer.events.iter().filter(|event| event.starts_with(name)).count()
    }
}
