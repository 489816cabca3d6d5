//! A worker without its tasks and sockets: sessions, what they share, and every decision about them.
//!
//! It does no I/O and reads no clock: each call brings the time. Bytes for a device go to the [`ByteStream`] that its
//! session began with; datagrams are taken out by [`WorkerCore::send_datagrams`]. The flow:
//!
//! 1. [`WorkerCore::claim`]: a CONNECT whose device has proved its identity gets a session to be, the older session of
//!    the device ends, and the interest in commands is declared.
//! 2. [`WorkerCore::poll_attached`]: the interest is in place; the shell does not wait for ever. Then
//!    [`WorkerCore::begin`]: `online` and CONNACK.
//! 3. [`WorkerCore::may_read`], [`WorkerCore::reserve`] and [`WorkerCore::received`], as long as the connection is
//!    there: bytes of the device.
//! 4. [`WorkerCore::receipts`]: answers and reports of the queue. [`WorkerCore::command_events`]: commands.
//!    [`WorkerCore::mail`]: the rest of the replica.
//! 5. [`WorkerCore::tick`], ten times a second: every deadline.
//! 6. [`WorkerCore::lost`]: the connection is broken. [`WorkerCore::ending`] says when a session has ended; its
//!    connection is flushed and closed then, and [`WorkerCore::closed`] told. The slot is given up once the last records
//!    are stored.
//! 7. [`WorkerMessage::Drain`], then [`WorkerCore::drain_step`] until it is over.

mod coap;
mod commands;
mod queue;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

pub use self::sessions::TakenIn;
use super::coap_port::CoapPort;
use super::connection::{Connection, Progress, State};
use super::deadlines::Deadlines;
use super::drain::{Drain, Drained, Left, Step};
use super::heartbeat::Heartbeat;
use super::paused::Paused;
use super::queue_health::QueueHealth;
use super::replica::ReplicaHandle;
use super::starting::Starting;
use super::suspension::Suspension;
use crate::protocol::limit::Now;
use crate::protocol::uplink::{Availability, DeliveryId};
use crate::replica::WorkerMessage;
use crate::replica::claim::ClaimKind;
use crate::session::mqtt::{Context, Ending};
use crate::session::slots::Slots;
use crate::transport::environment::Environment;
use crate::transport::socket::ByteStream;
use crate::transport::traits::Meter;

/// A gap between two ticks above this is time in which no connection was read: the process stood still, or the worker was
/// busy with one of them, us.
const STALL_US: u64 = 200_000;

/// Ticks in which every session is looked at once.
const TICKS_PER_ROUND: usize = 10;

/// Parameters of a worker's core.
#[derive(Debug, Clone, Copy)]
pub struct CoreSettings {
    /// Period in which this worker writes that the replica lives; one worker of a replica does.
    pub heartbeat_us: Option<u64>,
    /// How long the drain may go on after its last batch.
    pub drain_timeout_us: u64,
    /// Random number from which the ids of sessions are made.
    pub seed: u128,
}

/// See the module. `S` is what connections write to.
pub struct WorkerCore<S> {
    environment: Environment,
    replica: ReplicaHandle,
    connections: Connections<S>,
    starting: Starting,
    deadlines: Deadlines,
    queue: QueueHealth,
    heartbeat: Heartbeat,
    suspension: Suspension,
    ports: Vec<CoapPort>,
    drain: DrainState,
}

/// The connections of a worker, and buffers that they share.
struct Connections<S> {
    slots: Slots<Box<Connection<S>>>,
    paused: Paused,
    /// Bytes for the device of the call under way.
    send: Vec<u8>,
    /// Connections of the receipts under way.
    touched: Vec<DeliveryId>,
    /// Tick within its round.
    turn: usize,
    ticked_us: Option<u64>,
}

struct DrainState {
    timeout_us: u64,
    running: Option<Drain>,
}

/// The state of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainProgress {
    /// [`WorkerCore::drain_step`] has something to do at that time, us of the worker's clock.
    Continues {
        /// When.
        at_us: u64,
    },
    /// The worker has ended.
    Over(Drained),
}

impl<S: ByteStream> WorkerCore<S> {
    /// A worker without sessions. `ports` are those of CoAP; the endpoint with number `n` is at place `n`.
    pub fn new(
        settings: &CoreSettings,
        environment: Environment,
        replica: ReplicaHandle,
        ports: Vec<CoapPort>,
    ) -> Self {
        Self {
            starting: Starting::new(&environment.limits, settings.seed),
            environment,
            replica,
            connections: Connections {
                slots: Slots::new(),
                paused: Paused::default(),
                send: Vec::new(),
                touched: Vec::new(),
                turn: 0,
                ticked_us: None,
            },
            deadlines: Deadlines::default(),
            queue: QueueHealth::new(),
            heartbeat: Heartbeat::new(settings.heartbeat_us),
            suspension: Suspension::default(),
            ports,
            drain: DrainState { timeout_us: settings.drain_timeout_us, running: None },
        }
    }

    /// The surroundings of the sessions.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Counters and log.
    pub fn meter(&mut self) -> &mut dyn Meter {
        &mut *self.environment.meter
    }

    /// The rest of the replica.
    pub fn replica(&self) -> &ReplicaHandle {
        &self.replica
    }

    /// The state of the queue: away also when it is connected and acknowledges nothing.
    pub fn queue(&self, now: Now) -> Availability {
        self.queue.availability(self.environment.load.held_records, now.us)
    }

    /// The state of a connection; `None` once its slot was given up.
    pub fn connection(&mut self, session: DeliveryId) -> Option<&mut State<S>> {
        self.connections.slots.find_mut(session).map(|connection| &mut connection.state)
    }

    /// Sessions that have a slot, those that have ended and wait for the queue among them.
    pub fn sessions(&self) -> impl Iterator<Item = DeliveryId> {
        self.connections.slots.iter().map(|connection| connection.token)
    }

    /// Takes a message from the rest of the replica. After [`WorkerMessage::Drain`], [`WorkerCore::drain_step`] must follow.
    pub fn mail(&mut self, now: Now, mail: WorkerMessage) {
        match mail {
            WorkerMessage::End(session, ending) => self.end(now, session, ending),
            WorkerMessage::Announce(session) => {
                if let Some(connection) = self.connections.slots.find(session) {
                    let peer = connection.peer.clone();
                    self.act_alone(now, session, |state, ctx| state.session.announce(&peer, ctx));
                }
            }
            WorkerMessage::Replaces(session) => {
                if let Some(state) = self.connection(session) {
                    state.session.replaces_another();
                }
            }
            WorkerMessage::Reassert(session) if self.connections.slots.find(session).is_some() => {
                self.environment.downlink.reassert(session);
            }
            WorkerMessage::Reassert(_) => {}
            WorkerMessage::BarrierReached { settled_us } => self.suspension.guard.note_claims(settled_us),
            WorkerMessage::Drain { per_second } => self.start_drain(now, per_second),
        }
    }

    /// Looks at every deadline; to be called ten times a second. Datagrams are left to be sent.
    pub fn tick(&mut self, now: Now) {
        self.environment.set_now(now);
        let Connections { slots, ticked_us, turn, .. } = &mut self.connections;
        let gap_us = ticked_us.replace(now.us).map_or(0, |ticked_us| now.us.saturating_sub(ticked_us));
        if gap_us > STALL_US {
            let unread_us = gap_us - STALL_US;
            slots.iter_mut().for_each(|connection| connection.state.session.extend_keep_alive(unread_us, now));
        }
        *turn = (*turn + 1) % TICKS_PER_ROUND;
        let (turn, places) = (*turn, slots.places());
        self.look_for_suspension(now);
        self.suspension.guard.tick(now.us);
        self.expire_commands(now);
        for place in (turn..places).step_by(TICKS_PER_ROUND) {
            self.tick_connection(now, place);
        }
        self.tick_ports(now);
        self.resume();
        if self.heartbeat.is_due(now.us) && self.queue.reported() == Availability::Ok {
            self.write_heartbeat(now);
        }
        let queue = self.queue(now);
        let Environment { load, meter, downlink, uplink, .. } = &mut self.environment;
        if load.held_records == 0 {
            self.queue.note_idle(now.us);
        }
        meter.load(load, queue, downlink.availability());
        meter.pauses(self.connections.paused.pauses());
        uplink.flush();
    }

    fn tick_connection(&mut self, now: Now, place: usize) {
        let Connections { slots, paused, .. } = &mut self.connections;
        let Some(connection) = slots.at_mut(place) else { return };
        let (session, state) = (connection.token, &mut connection.state);
        state.note_life(now);
        let is_stuck = if state.waits_for_room() {
            paused.note_crowded(now.us);
            false
        } else {
            paused.is_crowded(now.us) && state.is_stuck(now)
        };
        let takes_records = self.queue.reported() == Availability::Ok;
        self.act(now, session, |state, ctx| {
            if is_stuck {
                state.session.end(Ending::ConnectionLost, ctx);
            }
            if takes_records {
                state.session.retry(ctx);
            }
            state.session.tick(ctx);
        });
    }

    /// Wakes the connections that are not read although their sessions take input again.
    fn resume(&mut self) {
        let Connections { slots, paused, .. } = &mut self.connections;
        let Environment { limits, load, latest, .. } = &self.environment;
        paused.retain(latest.us, |session| {
            let connection = slots.find_mut(session);
            connection.is_some_and(|connection| connection.state.stays_paused(limits, load, *latest))
        });
    }

    fn start_drain(&mut self, now: Now, per_second: u64) {
        self.ports.iter_mut().for_each(|port| port.endpoint.drain());
        let connections = self.connections.slots.iter();
        let open = connections.filter(|connection| connection.state.session.ending().is_none());
        let sessions: VecDeque<DeliveryId> = open.map(|connection| connection.token).collect();
        self.drain.running = Some(Drain::new(sessions, per_second, self.drain.timeout_us, now.us));
    }

    /// Goes on with the drain that [`WorkerMessage::Drain`] began. A worker that does not drain has ended. Datagrams are left to be
    /// sent.
    pub fn drain_step(&mut self, now: Now) -> DrainProgress {
        loop {
            let left = Left {
                has_sessions: self.connections.slots.iter().next().is_some(),
                unanswered: self.ports.iter().map(|port| port.endpoint.unanswered()).sum(),
                has_unheard: self.ports.iter().any(|port| port.endpoint.in_flight() > 0),
                is_settled: self.environment.downlink.is_settled(),
                barriers: &self.suspension.barriers,
            };
            let drain = self.drain.running.as_mut();
            match drain.map_or(Step::Over, |drain| drain.step(now.us, &left)) {
                Step::Wait(at_us) => return DrainProgress::Continues { at_us },
                Step::Sessions(sessions) => {
                    for session in sessions {
                        self.act_alone(now, session, |state, ctx| state.session.drain(ctx));
                    }
                }
                Step::Barrier => {
                    let number = self.suspension.barriers.send();
                    let is_sent = self.environment.downlink.send_barrier(number);
                    if let Some(drain) = &mut self.drain.running {
                        drain.note_barrier(is_sent.then_some(number));
                    }
                }
                Step::Over => {
                    let unacknowledged = left.unanswered;
                    let connections = self.connections.slots.iter();
                    let in_flight: usize = connections.map(|connection| connection.state.session.in_flight()).sum();
                    self.ports.iter_mut().for_each(CoapPort::close);
                    return DrainProgress::Over(Drained { unacknowledged: unacknowledged + in_flight });
                }
            }
        }
    }

    /// As [`WorkerCore::act`], as a batch of its own.
    fn act_alone<R>(
        &mut self,
        now: Now,
        session: DeliveryId,
        act: impl FnOnce(&mut State<S>, &mut Context<'_>) -> R,
    ) -> Option<R> {
        self.environment.set_now(now);
        let result = self.act(now, session, act);
        self.environment.uplink.flush();
        result
    }

    /// Runs `act` on a connection with everything that a session needs, then writes what it left for the device. `None`:
    /// there is no such connection.
    fn act<R>(
        &mut self,
        now: Now,
        session: DeliveryId,
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

    /// Tells the load what a connection holds beyond its free share.
    pub fn charge(&mut self, session: DeliveryId, progress: Progress) {
        let Environment { load, latest, .. } = &mut self.environment;
        if let Some(connection) = self.connections.slots.find_mut(session) {
            connection.state.charge(load, *latest, progress);
        }
    }
}

impl<S: ByteStream> Connection<S> {
    /// Does what presence that came late and the end of a session ask for. True: nothing of it is left, and its slot is
    /// to be given up.
    fn settle(
        &mut self,
        environment: &mut Environment,
        replica: &ReplicaHandle,
        deadlines: &mut Deadlines,
        now: Now,
    ) -> bool {
        let Self { token, device, state, .. } = self;
        if let Some(late) = state.session.take_late_presence() {
            replica.tell_late(device, *token, state.session.id(), late);
        }
        let Some(ending) = state.session.ending() else { return false };
        if !state.is_retired {
            state.is_retired = true;
            state.charge_will(&mut environment.load);
            let pending = state.session.take_pending();
            if ending == Ending::TakenOver {
                // Commands that were written end at their deadlines. The others are never written, nor is anything else:
                // the connection of a device that does not read closes like any other.
                let written = state.written();
                let (sent, unsent): (Vec<_>, Vec<_>) = pending.into_iter().partition(|command| command.end <= written);
                deadlines.keep_orphaned(sent);
                state.output.unsent = Vec::new();
                environment.without_session(now, |ctx| unsent.into_iter().for_each(|command| ctx.lose(command)));
            }
            if let Some(session) = replica.directory.remove(device, replica.index, *token, now.us) {
                replica.say(ClaimKind::Ended, device, &session);
            }
            environment.downlink.detach(*token);
            state.wake();
        }
        state.is_closed && state.session.is_finished()
    }
}

impl<S> std::fmt::Debug for WorkerCore<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerCore").field("index", &self.replica.index).finish_non_exhaustive()
    }
}
