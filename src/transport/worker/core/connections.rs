//! The connections of sessions: bytes of devices in, receipts of the queue in, and the bytes that sessions answer out.

use super::WorkerCore;
use crate::protocol::limit::Now;
use crate::protocol::uplink::{DeliveryId, Receipt, RecordRefusal, Report, SlotId};
use crate::replica::claim::ClaimKind;
use crate::session::coap::endpoint_of;
use crate::session::mqtt::{Context, Ending};
use crate::session::slots::Slots;
use crate::transport::environment::Environment;
use crate::transport::socket::ByteStream;
use crate::transport::worker::connection::{Connection, Progress, Readiness, State};
use crate::transport::worker::deadlines::Deadlines;
use crate::transport::worker::input::{self, Fed};
use crate::transport::worker::paused::Paused;
use crate::transport::worker::replica::ReplicaHandle;

/// The connections of a worker, and the buffers that they share.
pub(super) struct Connections<S> {
    pub(super) slots: Slots<Box<Connection<S>>>,
    pub(super) paused: Paused,
    /// Bytes for the device that the current call is about. Kept between calls for its capacity.
    pub(super) send: Vec<u8>,
    /// Sessions that the current batch of receipts is about. Kept between batches for its capacity.
    touched: Vec<SlotId>,
    /// Number of the last tick within its round of [`TICKS_PER_ROUND`](super::TICKS_PER_ROUND).
    pub(super) tick_in_round: usize,
    /// Slot at which the search for sessions to shed goes on.
    pub(super) shed_place: usize,
    /// Time of the last tick.
    pub(super) ticked_us: Option<u64>,
}

impl<S> Connections<S> {
    pub(super) fn new() -> Self {
        Self {
            slots: Slots::new(),
            paused: Paused::default(),
            send: Vec::new(),
            touched: Vec::new(),
            tick_in_round: 0,
            shed_place: 0,
            ticked_us: None,
        }
    }
}

/// Number of bytes that were taken in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TakenIn {
    /// The bytes.
    pub bytes: usize,
    /// Whether there is more, which must wait until others had their turn.
    pub is_cut: bool,
}

impl<S: ByteStream> WorkerCore<S> {
    /// The state of a session's connection; `None` once its slot was released.
    pub fn connection(&mut self, session: SlotId) -> Option<&mut State<S>> {
        self.connections.slots.find_mut(session).map(|connection| &mut connection.state)
    }

    /// Takes in bytes that were read before and had to wait. The clock is read if there are any.
    pub fn take_waiting(&mut self, now: impl FnOnce() -> Now, session: SlotId) -> TakenIn {
        let Some(connection) = self.connections.slots.find_mut(session) else { return TakenIn::default() };
        if connection.state.input.bytes.is_empty() {
            return TakenIn::default();
        }
        let mut waiting = std::mem::take(&mut connection.state.input.bytes);
        let fed = self.feed(now(), session, &waiting);
        waiting.drain(..fed.used);
        if waiting.len() <= waiting.capacity() / 2 {
            waiting.shrink_to_fit();
        }
        if let Some(connection) = self.connections.slots.find_mut(session) {
            connection.state.input.bytes = waiting;
        }
        self.charge(session, if fed.used > 0 { Progress::Made } else { Progress::None });
        TakenIn { bytes: fed.used, is_cut: fed.is_cut }
    }

    /// Whether the connection may be read; if not, it is woken when it may. The clock is read if it was read until now.
    pub fn may_read(&mut self, now: impl FnOnce() -> Now, session: SlotId) -> bool {
        let Some(connection) = self.connections.slots.find_mut(session) else { return true };
        let readiness = connection.state.look_at_session(&self.environment.limits, &self.environment.load);
        if readiness == Readiness::JustPaused {
            self.pause(session);
            self.act_alone(now(), session, |state, ctx| {
                input::answer_pings(&mut state.input.bytes, &mut state.session, ctx);
            });
        }
        readiness == Readiness::Readable
    }

    /// Number of bytes that the connection may read; `None`: it is woken when there is room.
    pub fn reserve(&mut self, session: SlotId) -> Option<usize> {
        let Environment { limits, load, latest, .. } = &mut self.environment;
        let connection = self.connections.slots.find_mut(session)?;
        let room = connection.state.reserve(limits, load, *latest);
        if room.is_none() {
            self.connections.paused.note_crowded(latest.us);
            self.pause(session);
        }
        room
    }

    /// Takes in bytes that were read; what the session does not take waits. The clock is read if nothing waited before.
    pub fn received(&mut self, now: impl FnOnce() -> Now, session: SlotId, bytes: &[u8]) -> TakenIn {
        let Some(connection) = self.connections.slots.find_mut(session) else { return TakenIn::default() };
        let input = &mut connection.state.input;
        input.has_news = true;
        if !input.bytes.is_empty() {
            let len = input.bytes.len();
            // Not twice as much, as a vector that grows by itself would take.
            input.bytes.reserve_exact(input.needed.max(len + bytes.len()) - len);
            input.bytes.extend_from_slice(bytes);
            return TakenIn::default();
        }
        let fed = self.feed(now(), session, bytes);
        if fed.used < bytes.len() {
            if let Some(connection) = self.connections.slots.find_mut(session) {
                connection.state.input.bytes = bytes[fed.used..].to_vec();
            }
            self.charge(session, Progress::Made);
        }
        TakenIn { bytes: fed.used, is_cut: fed.is_cut }
    }

    fn feed(&mut self, now: Now, session: SlotId, bytes: &[u8]) -> Fed {
        let fed = self.act_alone(now, session, |state, ctx| {
            if std::mem::take(&mut state.input.has_news) {
                state.session.heard(ctx.now.us);
            }
            let fed = input::feed(bytes, &mut state.input.oversize, &mut state.session, ctx);
            state.input.needed = fed.needed;
            if fed.used > 0 {
                state.release_reserved();
            }
            fed
        });
        // A connection has its slot until it is closed.
        fed.unwrap_or(Fed { used: bytes.len(), needed: 0, is_cut: false })
    }

    /// Ends the session of a connection that is broken, or whose device has closed it.
    pub fn lost(&mut self, now: Now, session: SlotId) {
        self.act_alone(now, session, |state, ctx| state.session.end(Ending::ConnectionLost, ctx));
    }

    /// Notes that the connection of a session that has ended is closed. Its slot is given up once its records are stored.
    pub fn closed(&mut self, now: Now, session: SlotId) {
        let Self { environment, replica, connections, deadlines, .. } = self;
        let Some(connection) = connections.slots.find_mut(session) else { return };
        connection.state.close();
        connection.state.charge(&mut environment.load, now, Progress::None);
        if connection.settle(environment, replica, deadlines, now) {
            connections.slots.release(session);
        }
    }

    /// Remembers a connection that is not read; it is woken when its session takes input again.
    fn pause(&mut self, session: SlotId) {
        let Some(connection) = self.connections.slots.find_mut(session) else { return };
        if connection.state.note_listed() {
            self.connections.paused.add(session, self.environment.latest.us);
        }
    }

    /// Applies the answers of the queue, which leaves `receipts` empty, and sends windows once more in each new epoch.
    /// Datagrams are left to be sent.
    pub fn receipts(&mut self, now: Now, receipts: &mut Vec<Receipt>, report: Report) {
        self.environment.set_now(now);
        let begins_epoch = self.queue.report(report, !receipts.is_empty(), now.us);
        let mut touched = std::mem::take(&mut self.connections.touched);
        for receipt in receipts.drain(..) {
            let (id, stored) = match receipt {
                Receipt::Stored(id) => (id, true),
                Receipt::Failed(id) => (id, false),
                Receipt::Refused(id, refusal) => {
                    self.refused(now, id, &refusal);
                    continue;
                }
            };
            if let Some(number) = endpoint_of(id.slot) {
                self.port_receipt(number, id, stored);
                continue;
            }
            let Some(connection) = self.connections.slots.find_mut(id.slot) else { continue };
            connection.state.session.receipt(id.sequence, stored, now.us);
            // Receipts of one connection come in runs; the rare repetition costs one empty look.
            if touched.last() != Some(&connection.slot) {
                touched.push(connection.slot);
            }
        }
        for session in touched.drain(..) {
            self.act(now, session, |state, ctx| state.session.acknowledge(ctx));
        }
        self.connections.touched = touched;
        if begins_epoch {
            self.resend(now);
        }
        if report.wants_heartbeat {
            self.write_heartbeat(now);
        }
        self.resume();
        self.environment.uplink.flush();
    }

    /// Replaces a record that the queue will never store.
    fn refused(&mut self, now: Now, id: DeliveryId, refusal: &RecordRefusal) {
        match endpoint_of(id.slot) {
            Some(number) => self.port_refused(number, id, refusal),
            None => {
                self.act(now, id.slot, |state, ctx| state.session.refused(id.sequence, refusal, ctx));
            }
        }
    }

    /// Hands over once more what is not stored.
    fn resend(&mut self, now: Now) {
        // By sessions: the presence of an earlier one must not be sent again behind that of a later one.
        let connections = self.connections.slots.iter();
        let mut sessions: Vec<(String, SlotId)> =
            connections.map(|connection| (connection.state.session.id().to_owned(), connection.slot)).collect();
        sessions.sort_by(|(id, _), (other, _)| id.cmp(other));
        for (_, session) in sessions {
            self.act(now, session, |state, ctx| state.session.resend(ctx));
        }
        self.resend_ports();
    }

    /// Wakes the paused connections that may be read again: their sessions take input, and there is memory for it.
    pub(super) fn resume(&mut self) {
        let Connections { slots, paused, .. } = &mut self.connections;
        let Environment { limits, load, latest, .. } = &self.environment;
        paused.retain(latest.us, |session| {
            let connection = slots.find_mut(session);
            connection.is_some_and(|connection| connection.state.stays_paused(limits, load, *latest))
        });
    }

    /// Sets the time, calls [`WorkerCore::act`] and flushes the uplink.
    pub(super) fn act_alone<R>(
        &mut self,
        now: Now,
        session: SlotId,
        act: impl FnOnce(&mut State<S>, &mut Context<'_>) -> R,
    ) -> Option<R> {
        self.environment.set_now(now);
        let result = self.act(now, session, act);
        self.environment.uplink.flush();
        result
    }

    /// Runs `act` on the connection of a session, then writes the bytes that it produced for the device. The slot is
    /// released if nothing is left to do for the session. `None` when there is no such connection.
    pub(super) fn act<R>(
        &mut self,
        now: Now,
        session: SlotId,
        act: impl FnOnce(&mut State<S>, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let Self { environment, replica, connections, deadlines, .. } = self;
        let connection = connections.slots.find_mut(session)?;
        let result = connection.act(environment, &mut connections.send, now, act);
        if connection.settle(environment, replica, deadlines, now) {
            connections.slots.release(session);
        }
        Some(result)
    }

    /// Updates the load by the memory that a connection holds beyond
    /// [`Limits::FREE_BYTES`](crate::protocol::limit::Limits::FREE_BYTES).
    pub fn charge(&mut self, session: SlotId, progress: Progress) {
        let Environment { load, latest, .. } = &mut self.environment;
        if let Some(connection) = self.connections.slots.find_mut(session) {
            connection.state.charge(load, *latest, progress);
        }
    }
}

impl<S: ByteStream> Connection<S> {
    /// Reports late presence to the other replicas. Once the session has ended, removes it from the directory and the
    /// downlink. True when the connection is closed and the session is finished: the slot is to be released.
    fn settle(
        &mut self,
        environment: &mut Environment,
        replica: &ReplicaHandle,
        deadlines: &mut Deadlines,
        now: Now,
    ) -> bool {
        let Self { slot, device, state, .. } = self;
        if let Some(late) = state.session.take_late_presence() {
            replica.tell_late(device, *slot, state.session.id(), late);
        }
        let Some(ending) = state.session.ending() else { return false };
        if !state.is_retired {
            state.is_retired = true;
            state.charge_will(&mut environment.load);
            let pending = state.session.take_pending();
            if ending == Ending::TakenOver {
                // Commands that were written to the socket keep their deadlines: the device may still reply to them.
                // The others are lost, and the unsent bytes are dropped: the old connection closes even when its device
                // does not read.
                let written = state.written();
                let (sent, unsent): (Vec<_>, Vec<_>) = pending.into_iter().partition(|command| command.end <= written);
                deadlines.keep_orphaned(sent);
                state.output.unsent = Vec::new();
                environment.without_session(now, |ctx| unsent.into_iter().for_each(|command| ctx.lose(command)));
            }
            if let Some(session) = replica.directory.remove(device, replica.index, *slot, now.us) {
                replica.say(ClaimKind::Ended, device, &session);
            }
            environment.downlink.detach(*slot);
            state.wake();
        }
        state.is_closed && state.session.is_finished()
    }
}
