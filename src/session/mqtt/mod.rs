//! One authenticated device, from CONNACK to the receipt of its `offline`, as a state machine.
//!
//! It does no I/O, reads no clock and draws no random number: every call passes a [`Context`] with the time, the queue, the
//! encoder and the buffer for the device. The flow:
//!
//! 1. [`Session::start`]: the session is announced (`online`), CONNACK is written.
//! 2. [`Session::packet`]: a PUBLISH becomes a record and enters the window; everything else is answered at once.
//! 3. [`Session::receipt`], any number of times, then once [`Session::acknowledge`]: stored messages are acknowledged to
//!    the device, in the order in which they came.
//!    [`Session::refused`] instead of a receipt: the queue will never store a record, so a rejected envelope replaces it.
//! 4. [`Session::resend`]: the queue takes records again after it was away; [`Session::retry`], about once a second:
//!    a record failed alone.
//! 5. [`Session::command`]: a command is written to the device; its outcome goes to the caller when the reply, the
//!    PUBACK, the deadline ([`Session::expire`]) or the end comes.
//! 6. [`Session::tick`], about once a second: deadlines of keep-alive and of acknowledgements. Any byte of the device
//!    restarts its keep-alive, not only a whole packet: the transport reports bytes by [`Session::heard`].
//! 7. [`Session::end`]: will, `offline`, the failures of waiting commands. The session stays until
//!    [`Session::is_finished`]: records on their way to the queue still get there.
//!
//! After every call check [`Session::ending`]: once it is set, flush the buffer and close the connection.

mod commands;
mod context;
mod ending;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod outcomes;
mod pending;
mod presence;
mod publish;
#[cfg(test)]
mod steps;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod traces;
pub(crate) mod window;

pub use context::{Context, DropReason, Event, Observer};
pub use ending::Ending;
pub use pending::Pending;

use self::ending::Phase;
use self::pending::PendingCommands;
use self::presence::Presence;
#[cfg(test)]
pub(crate) use self::presence::SETTLED_US;
use self::window::{Acknowledgement, Window};
pub use self::window::{LatePresence, SpareBuffers};
use crate::codec::mqtt::{ConnectCode, Packet, PacketId, Qos, Version, encode};
use crate::protocol::envelope::{Cause, Encoder, Source};
use crate::protocol::filter::{self, FILTERS_MAX, Subscriptions};
use crate::protocol::id::{DeviceId, ProductId};
use crate::protocol::limit::{Limits, Load, Now};
use crate::protocol::uplink::{Record, SlotId};
use crate::session::step::{Action, Step};

/// Most QoS 2 exchanges that a device may have open; one more is a protocol error. 4 bytes each.
const EXCHANGES_MAX: usize = 1024;

/// A will, kept until the session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredWill {
    /// Its topic.
    pub topic: Box<str>,
    /// Its payload.
    pub payload: Box<[u8]>,
}

/// A child that the registry binds to a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundChild {
    /// Its id.
    pub id: DeviceId,
    /// Its product.
    pub product: ProductId,
}

/// Parameters of a new session.
#[derive(Debug)]
pub struct Opening<'a> {
    /// Its slot in the worker.
    pub slot: SlotId,
    /// The registry's product of the device.
    pub product: ProductId,
    /// The device.
    pub device: DeviceId,
    /// ULID of the session, as text.
    pub id: Box<str>,
    /// Protocol version of the CONNECT.
    pub version: Version,
    /// Keep-alive of the CONNECT in seconds.
    pub keep_alive_secs: u16,
    /// Will of the CONNECT.
    pub will: Option<StoredWill>,
    /// The children that the registry binds to the device: they go online and offline with it.
    pub children: Box<[BoundChild]>,
    /// Address of the client, as text.
    pub peer: &'a str,
}

/// The session of one device; the module says how it is driven.
#[derive(Debug)]
pub struct Session {
    product: ProductId,
    device: DeviceId,
    id: Box<str>,
    version: Version,
    keep_alive: KeepAlive,
    will: Option<Box<StoredWill>>,
    children: Box<[BoundChild]>,
    window: Window,
    subscriptions: Subscriptions,
    /// QoS 2 messages received and not yet released, and whether PUBREC was sent.
    exchanges: Vec<(PacketId, bool)>,
    pending: PendingCommands,
    phase: Phase,
    presence: Presence,
}

/// Keep-alive of a session, by the worker's clock.
#[derive(Debug)]
struct KeepAlive {
    allowed_us: u64,
    /// Time of the last activity of the device.
    heard_us: u64,
}

impl Session {
    /// Starts the session of an authenticated device: `online` goes to the queue before any other record of the session,
    /// and CONNACK to the device.
    pub fn start(opening: Opening<'_>, ctx: &mut Context<'_>) -> Self {
        let allowed_us = match opening.keep_alive_secs {
            0 => ctx.limits.keep_alive_max_us,
            // MQTT-3.1.2-24: one and a half times what the client asked for.
            seconds => u64::from(seconds) * 1_500_000,
        };
        let mut session = Self {
            product: opening.product,
            device: opening.device,
            id: opening.id,
            version: opening.version,
            keep_alive: KeepAlive { allowed_us, heard_us: ctx.now.us },
            will: opening.will.map(Box::new),
            children: opening.children,
            window: Window::new(opening.slot),
            subscriptions: Subscriptions::default(),
            exchanges: Vec::new(),
            pending: PendingCommands::new(),
            phase: Phase::Serving,
            presence: Presence::new(ctx.now.us),
        };
        if ctx.is_followed {
            let version = match session.version {
                Version::V31 => "3.1",
                Version::V311 => "3.1.1",
            };
            let Opening { keep_alive_secs, .. } = opening;
            let action = Action::Connect { session: &session.id, version, keep_alive_secs };
            session.tell(session.device.as_str(), action, ctx);
        }
        session.announce(opening.peer, ctx);
        ctx.send.extend_from_slice(&encode::connack(ConnectCode::Accepted));
        session
    }

    /// Writes `online` of the device and of the children that are bound to it: at the start, and again when presence of an
    /// earlier session may have been stored behind it. Does nothing once the session has ended.
    pub fn announce(&mut self, peer: &str, ctx: &mut Context<'_>) {
        if self.has_ended() {
            return;
        }
        let record = ctx.encoder.online(&self.source(None), peer);
        self.hold_presence(record, None, ctx);
        self.announce_children(ctx, |encoder, source, child| encoder.child_online(source, child, peer));
    }

    /// Notes when the CONNECT was accepted, us of the worker's clock. From then on the device may have connected to another
    /// replica, and the `online` of this session may be stored behind that of the other.
    pub fn note_accepted(&mut self, at_us: u64) {
        self.presence.note_accepted(at_us);
    }

    /// Notes that an older session was taken over by this one. As the older one writes no `offline`, the `online` of this one
    /// must be stored, even when it has ended by then.
    pub fn replaces_another(&mut self) {
        self.presence.replaces_another();
    }

    /// Takes the news that presence of this session may be stored behind that of a newer one, which must then be
    /// [announced](Session::announce) again. Each such news is returned once, and only when no record of this session can
    /// be stored later: records that were handed over before the queue was lost come before those handed over since.
    pub fn take_late_presence(&mut self) -> Option<LatePresence> {
        self.presence.take_late(self.window.is_empty())
    }

    /// The device.
    pub fn device(&self) -> &DeviceId {
        &self.device
    }

    /// The session's ULID.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The protocol version that it speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Bytes of the will that the session still keeps.
    pub fn will_bytes(&self) -> usize {
        self.will.as_ref().map_or(0, |will| will.topic.len() + will.payload.len())
    }

    /// Cause of the end, once the session has ended.
    pub fn ending(&self) -> Option<Ending> {
        match self.phase {
            Phase::Serving | Phase::Draining(_) => None,
            Phase::Ended(ending) => Some(ending),
        }
    }

    /// Whether the session neither drains nor has ended.
    pub fn is_serving(&self) -> bool {
        self.phase == Phase::Serving
    }

    fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    /// Whether the session has ended and none of its records is on its way any more: its slot can be released.
    pub fn is_finished(&self) -> bool {
        self.has_ended() && self.window.is_empty()
    }

    /// Number of records on their way to the queue.
    pub fn in_flight(&self) -> usize {
        self.window.len()
    }

    /// Whether the session accepts the next packet; while it does not, the connection is not read.
    pub fn wants_input(&self, limits: &Limits, load: &Load) -> bool {
        match self.phase {
            Phase::Serving => self.window.len() < limits.inflight_per_connection && load.takes_more(limits),
            Phase::Draining(_) | Phase::Ended(_) => false,
        }
    }

    /// Handles one packet. Only while [`Session::wants_input`].
    pub fn packet(&mut self, packet: Packet<'_>, ctx: &mut Context<'_>) {
        match packet {
            Packet::Publish(publish) => self.publish(&publish.head, Some(publish.payload), ctx),
            Packet::Puback(id) => self.puback(id, ctx),
            Packet::Pubrel(id) => {
                self.exchanges.retain(|&(open, _)| open != id);
                ctx.send.extend_from_slice(&encode::pubcomp(id));
            }
            Packet::Subscribe(id, filters) => {
                // A packet has room for thousands of filters, and each is compared with those that are kept.
                let codes: Vec<u8> = (0..)
                    .zip(filters)
                    .map(|(number, (filter, asked))| {
                        let granted = if number < FILTERS_MAX { self.subscribe(filter, asked) } else { None };
                        if ctx.is_followed {
                            self.tell(self.device.as_str(), Action::Subscribe { filter, granted }, ctx);
                        }
                        granted.map_or_else(|| self.ungranted(asked), |granted| granted as u8)
                    })
                    .collect();
                encode::suback(ctx.send, id, &codes);
            }
            Packet::Unsubscribe(id, filters) => {
                for filter in filters {
                    self.subscriptions.remove(filter);
                    if ctx.is_followed {
                        self.tell(self.device.as_str(), Action::Unsubscribe { filter }, ctx);
                    }
                }
                ctx.send.extend_from_slice(&encode::unsuback(id));
            }
            Packet::Pingreq => ctx.send.extend_from_slice(&encode::PINGRESP),
            Packet::Disconnect => self.end(Ending::Disconnected, ctx),
            // Commands go out at QoS 1 at most: PUBACK answers them, and these two are wrong (4.3.2).
            Packet::Pubrec(id) | Packet::Pubcomp(id) if self.pending.holds_packet(id) => {
                self.end(Ending::ProtocolError, ctx);
            }
            // Of an exchange that another server began; the device may end it (4.3.3).
            Packet::Pubrec(id) => ctx.send.extend_from_slice(&encode::pubrel(id)),
            Packet::Pubcomp(_) => {}
            Packet::Connect(_)
            | Packet::ConnectOfOtherVersion
            | Packet::Connack(..)
            | Packet::Suback(..)
            | Packet::Unsuback(_)
            | Packet::Pingresp => self.end(Ending::ProtocolError, ctx),
        }
    }

    /// Answers a PINGREQ that was read while the session accepts no packet.
    pub fn ping(&mut self, ctx: &mut Context<'_>) {
        if !self.has_ended() {
            ctx.send.extend_from_slice(&encode::PINGRESP);
        }
    }

    /// Stops accepting packets; the session ends for that reason when all messages are acknowledged. Only the first call
    /// counts.
    pub fn drain(&mut self, ending: Ending, ctx: &mut Context<'_>) {
        if self.phase == Phase::Serving {
            self.phase = Phase::Draining(ending);
        }
        self.acknowledge(ctx);
    }

    /// Checks the deadlines; to be called about once a second.
    pub fn tick(&mut self, ctx: &mut Context<'_>) {
        let overdue = self
            .window
            .oldest_us()
            .is_some_and(|taken_us| ctx.now.us.saturating_sub(taken_us) >= ctx.limits.ack_timeout_us);
        match self.phase {
            Phase::Ended(_) if overdue => self.abandon(ctx),
            Phase::Ended(_) => {}
            Phase::Serving | Phase::Draining(_) if overdue => self.end(Ending::NotAcknowledged, ctx),
            Phase::Serving if self.wants_input(ctx.limits, ctx.load) => {
                if self.is_silent(ctx.now) {
                    self.end(Ending::KeepAlive, ctx);
                }
            }
            // The connection is not read, so the device has no way to show that it lives.
            Phase::Serving | Phase::Draining(_) => self.heard(ctx.now.us),
        }
    }

    /// Notes activity of the device at `at_us` of the worker's clock: a byte came from it, or it took one, or its connection
    /// was not read. The keep-alive is measured from the last activity.
    pub fn heard(&mut self, at_us: u64) {
        self.keep_alive.heard_us = self.keep_alive.heard_us.max(at_us);
    }

    /// Subtracts `unread_us` from the silence until now: time in which no connection was read.
    pub fn extend_keep_alive(&mut self, unread_us: u64, now: Now) {
        self.keep_alive.heard_us = self.keep_alive.heard_us.saturating_add(unread_us).min(now.us);
    }

    /// Whether the device was silent for longer than its keep-alive allows.
    pub fn is_silent(&self, now: Now) -> bool {
        now.us.saturating_sub(self.keep_alive.heard_us) >= self.keep_alive.allowed_us
    }

    /// Ends the session; only the first call counts.
    pub fn end(&mut self, ending: Ending, ctx: &mut Context<'_>) {
        match self.phase {
            Phase::Ended(_) => return,
            Phase::Serving | Phase::Draining(_) => self.phase = Phase::Ended(ending),
        }
        if ctx.is_followed {
            self.tell(self.device.as_str(), Action::Disconnect(ending), ctx);
        }
        if self.presence.end(ending, ctx.now.us) {
            self.window.keep_presence();
        } else {
            // Stored now, it could stand behind the `online` of the device's next session.
            self.window.withdraw_presence();
        }
        if ending == Ending::NotAcknowledged {
            self.abandon(ctx);
        }
        if let Some(will) = self.will.take().filter(|_| ending.publishes_will()) {
            self.publish_will(&will, ctx);
        }
        if let Some(cause) = ending.cause() {
            self.announce_end(cause, ctx);
        }
        if ending != Ending::TakenOver {
            self.fail_pending(ctx);
        }
        self.exchanges = Vec::new();
        ctx.observer.event(Event::Ended(ending));
        self.acknowledge(ctx);
    }

    fn announce_end(&mut self, cause: Cause, ctx: &mut Context<'_>) {
        self.announce_children(ctx, |encoder, source, child| encoder.child_offline(source, child, cause));
        let record = ctx.encoder.offline(&self.source(None), cause);
        self.hold_presence(record, None, ctx);
    }

    /// Adds presence of the device, or of a child, to the window.
    fn hold_presence(&mut self, record: Record, child: Option<&DeviceId>, ctx: &mut Context<'_>) {
        if ctx.is_followed {
            self.tell(child.unwrap_or(&self.device).as_str(), Action::Envelope(&record), ctx);
        }
        self.hold(Some(record), None, Acknowledgement::Presence, ctx);
    }

    fn step<'a>(&'a self, about: &'a str, action: Action<'a>) -> Step<'a> {
        Step { product: self.product.as_str(), device: self.device.as_str(), about, action }
    }

    /// Tells those who follow a device of a step; only while somebody does.
    fn tell(&self, about: &str, action: Action<'_>, ctx: &mut Context<'_>) {
        ctx.observer.step(&self.step(about, action));
    }

    fn source<'a>(&'a self, about_product: Option<&'a str>) -> Source<'a> {
        Source { product: self.product.as_str(), device: self.device.as_str(), session: Some(&self.id), about_product }
    }

    fn announce_children(&mut self, ctx: &mut Context<'_>, encode: impl Fn(&mut Encoder, &Source<'_>, &str) -> Record) {
        for index in 0..self.children.len() {
            let child = self.children[index].clone();
            let record = encode(ctx.encoder, &self.source(Some(child.product.as_str())), child.id.as_str());
            self.hold_presence(record, Some(&child.id), ctx);
        }
    }

    /// The QoS of a filter; `None`: it is not kept.
    fn subscribe(&mut self, filter: &str, asked: Qos) -> Option<Qos> {
        let is_own = filter::is_own(filter, self.product.as_str(), self.device.as_str());
        if is_own { self.subscriptions.insert(filter, asked) } else { None }
    }

    /// Return code of SUBACK for a filter that is not kept.
    fn ungranted(&self, asked: Qos) -> u8 {
        const REFUSED: u8 = 0x80;
        match self.version {
            Version::V311 => REFUSED,
            // MQTT 3.1 has no refusal.
            Version::V31 => asked.min(Qos::AtLeastOnce) as u8,
        }
    }
}
