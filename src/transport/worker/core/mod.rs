//! The part of a worker without tasks and sockets: its sessions, their shared state, and every decision about them.
//!
//! It does no I/O and reads no clock: the caller passes the time. Bytes for a device are written to the [`ByteStream`]
//! that [`WorkerCore::begin`] was given. CoAP datagrams are fetched by [`WorkerCore::send_datagrams`]. The caller makes
//! these calls:
//!
//! 1. [`WorkerCore::claim`] after a CONNECT has passed authentication. A session is reserved, the older session of the
//!    device ends, and the interest in the device's commands (the subscription) is declared.
//! 2. [`WorkerCore::poll_attached`] until the interest is in place, or until the caller's timeout. Then
//!    [`WorkerCore::begin`], which writes the record `online` and CONNACK.
//! 3. [`WorkerCore::may_read`], [`WorkerCore::reserve`] and [`WorkerCore::received`] for the bytes of the device, as long
//!    as the connection is open.
//! 4. [`WorkerCore::receipts`] for receipts and reports of the queue, [`WorkerCore::command_events`] for commands, and
//!    [`WorkerCore::message`] for messages of the rest of the replica.
//! 5. [`WorkerCore::tick`] ten times a second, for every deadline.
//! 6. [`WorkerCore::lost`] when the connection is broken. [`WorkerCore::ending`] tells that a session has ended. Its
//!    connection is then flushed and closed, and [`WorkerCore::closed`] is called. The slot is released once the last
//!    records of the session are stored.
//! 7. [`WorkerCore::message`] with [`WorkerMessage::Drain`], then [`WorkerCore::drain_step`] until the drain is over.

mod coap;
mod commands;
mod connections;
mod leaving;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use self::connections::Connections;
pub use self::connections::TakenIn;
use super::age::AgeLimit;
use super::coap_port::CoapPort;
use super::deadlines::Deadlines;
use super::drain::{Drain, Drained, Remaining, Step};
use super::heartbeat::{Heartbeat, HeartbeatSettings};
use super::queue_health::QueueHealth;
use super::replica::ReplicaHandle;
use super::starting::Starting;
use super::suspension::Suspension;
use crate::protocol::limit::Now;
use crate::protocol::uplink::{Availability, DeliveryId, Handover, SlotId};
use crate::replica::WorkerMessage;
use crate::session::mqtt::Ending;
use crate::session::step::{self, Action, Peer};
use crate::transport::environment::Environment;
use crate::transport::socket::ByteStream;
use crate::transport::traits::Meter;

/// Longest normal gap between two ticks, us. In a longer one no connection was read: the process was suspended, or one
/// connection kept the worker busy.
const TICK_GAP_MAX_US: u64 = 200_000;

/// Number of ticks in which each session is ticked once.
const TICKS_PER_ROUND: usize = 10;

/// Parameters of a worker's core.
#[derive(Debug, Clone, Copy)]
pub struct CoreSettings {
    /// The heartbeats of the replica.
    pub heartbeat: HeartbeatSettings,
    /// Longest time from the last batch of a drain to its end, us.
    pub drain_timeout_us: u64,
    /// Age at which sessions are ended, give or take a tenth, us; `None`: they may stay.
    pub session_age_max_us: Option<u64>,
    /// Random seed of the session ids.
    pub seed: u128,
}

/// The core of one worker; the module describes its calls. `S` is the type of the connections' byte streams.
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
    leaving: Leaving,
}

/// The state that decides when sessions leave.
struct Leaving {
    age_limit: AgeLimit,
    /// See [`CoreSettings::drain_timeout_us`].
    drain_timeout_us: u64,
    drain: Option<Drain>,
}

/// The state of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainProgress {
    /// The drain goes on. [`WorkerCore::drain_step`] must be called again.
    Continues {
        /// Time of that call, us of the worker's clock.
        at_us: u64,
    },
    /// The worker has ended.
    Over(Drained),
}

impl<S: ByteStream> WorkerCore<S> {
    /// A worker without sessions. `ports` are its CoAP ports; the endpoint with number `n` has index `n`.
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
            connections: Connections::new(),
            deadlines: Deadlines::default(),
            queue: QueueHealth::new(),
            heartbeat: Heartbeat::new(settings.heartbeat),
            suspension: Suspension::default(),
            ports,
            leaving: Leaving {
                age_limit: AgeLimit::new(settings.session_age_max_us, settings.seed),
                drain_timeout_us: settings.drain_timeout_us,
                drain: None,
            },
        }
    }

    /// The state and interfaces that all sessions use.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The counters and the log.
    pub fn meter(&mut self) -> &mut dyn Meter {
        &mut *self.environment.meter
    }

    /// The handle to the other workers and to the other replicas.
    pub fn replica(&self) -> &ReplicaHandle {
        &self.replica
    }

    /// The state of the queue. A queue that is connected and acknowledges nothing counts as away.
    pub fn queue(&self, now: Now) -> Availability {
        self.queue.availability(self.environment.load.held_records, now.us)
    }

    /// The sessions that have a slot. A session that has ended keeps its slot until the queue has stored its records.
    pub fn sessions(&self) -> impl Iterator<Item = SlotId> {
        self.connections.slots.iter().map(|connection| connection.slot)
    }

    /// Handles a message from the rest of the replica. After [`WorkerMessage::Drain`], [`WorkerCore::drain_step`] must be
    /// called.
    pub fn message(&mut self, now: Now, message: WorkerMessage) {
        match message {
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
            WorkerMessage::BarrierReached { settled_us } => self.suspension.note_claims(settled_us),
            WorkerMessage::Shed { count } => self.shed(now, count),
            WorkerMessage::Drain { per_second } => self.start_drain(now, per_second),
        }
    }

    /// Checks every deadline. Must be called ten times a second, and [`WorkerCore::send_datagrams`] after it.
    pub fn tick(&mut self, now: Now) {
        self.environment.set_now(now);
        let Connections { slots, ticked_us, tick_in_round, .. } = &mut self.connections;
        let gap_us = ticked_us.replace(now.us).map_or(0, |ticked_us| now.us.saturating_sub(ticked_us));
        if gap_us > TICK_GAP_MAX_US {
            let unread_us = gap_us - TICK_GAP_MAX_US;
            slots.iter_mut().for_each(|connection| connection.state.session.extend_keep_alive(unread_us, now));
        }
        *tick_in_round = (*tick_in_round + 1) % TICKS_PER_ROUND;
        let (tick_in_round, places) = (*tick_in_round, slots.places());
        self.look_for_suspension(now);
        self.suspension.tick(now.us);
        self.expire_commands(now);
        for place in (tick_in_round..places).step_by(TICKS_PER_ROUND) {
            self.tick_connection(now, place);
        }
        self.tick_ports();
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
        let (session, state) = (connection.slot, &mut connection.state);
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
        self.end_for_age(now, session);
    }

    /// Writes that the replica lives: because it is time, or because the queue asks for a record that proves that it
    /// stores any. A record that the queue does not take is tried again a tick later.
    fn write_heartbeat(&mut self, now: Now) {
        let (sessions, interval_ms) = (self.replica.directory.len() as u64, self.heartbeat.interval_ms());
        let record = self.environment.encoder.replica(sessions, interval_ms);
        if self.environment.uplink.publish(DeliveryId::NOBODY, &record) == Handover::Taken {
            self.heartbeat.note_written(now.us);
            let meter = &mut self.environment.meter;
            if meter.is_followed() {
                let step = step::Step { product: "", device: "", about: "", action: Action::Envelope(&record) };
                meter.step(Peer::Text(""), &step);
            }
        }
    }

    fn start_drain(&mut self, now: Now, per_second: u64) {
        self.ports.iter_mut().for_each(|port| port.endpoint.drain());
        let connections = self.connections.slots.iter();
        let open = connections.filter(|connection| connection.state.session.ending().is_none());
        let sessions: VecDeque<SlotId> = open.map(|connection| connection.slot).collect();
        self.leaving.drain = Some(Drain::new(sessions, per_second, self.leaving.drain_timeout_us, now.us));
    }

    /// Does the next steps of the drain that [`WorkerMessage::Drain`] started. Without such a drain the result is
    /// [`DrainProgress::Over`]. [`WorkerCore::send_datagrams`] must be called after it.
    pub fn drain_step(&mut self, now: Now) -> DrainProgress {
        loop {
            let remaining = Remaining {
                has_sessions: self.connections.slots.iter().next().is_some(),
                unanswered: self.ports.iter().map(|port| port.endpoint.unanswered()).sum(),
                has_unacknowledged: self.ports.iter().any(|port| port.endpoint.in_flight() > 0),
                is_settled: self.environment.downlink.is_settled(),
                barriers: &self.suspension.barriers,
            };
            let drain = self.leaving.drain.as_mut();
            match drain.map_or(Step::Over, |drain| drain.step(now.us, &remaining)) {
                Step::Wait(at_us) => return DrainProgress::Continues { at_us },
                Step::Sessions(sessions) => {
                    for session in sessions {
                        self.act_alone(now, session, |state, ctx| state.session.drain(Ending::Drained, ctx));
                    }
                }
                Step::Barrier => {
                    let number = self.suspension.barriers.send();
                    let is_sent = self.environment.downlink.send_barrier(number);
                    if let Some(drain) = &mut self.leaving.drain {
                        drain.note_barrier(is_sent.then_some(number));
                    }
                }
                Step::Over => {
                    let unanswered = remaining.unanswered;
                    let connections = self.connections.slots.iter();
                    let in_flight: usize = connections.map(|connection| connection.state.session.in_flight()).sum();
                    self.ports.iter_mut().for_each(CoapPort::close);
                    return DrainProgress::Over(Drained { unacknowledged: unanswered + in_flight });
                }
            }
        }
    }
}

impl<S> std::fmt::Debug for WorkerCore<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerCore").field("index", &self.replica.index).finish_non_exhaustive()
    }
}
