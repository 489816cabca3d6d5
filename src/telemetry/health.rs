//! Whether the process lives, whether it is ready, and which of its parts answer.
#![expect(clippy::disallowed_methods, reason = "outside the pure core, so it reads the clock itself")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::protocol::uplink::Availability;

/// State of a part that the bridge depends on; of several connections the greatest one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartState {
    /// Not used by this configuration.
    Off,
    /// Answers.
    Ok,
    /// Not reached yet.
    Starting,
    /// Was reached, and does not answer.
    Away,
    /// Has no room.
    Full,
}

impl PartState {
    /// As `/readyz` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            PartState::Off => "off",
            PartState::Starting => "starting",
            PartState::Ok => "ok",
            PartState::Away => "away",
            PartState::Full => "full",
        }
    }
}

impl From<Availability> for PartState {
    fn from(availability: Availability) -> Self {
        match availability {
            Availability::Starting => PartState::Starting,
            Availability::Ok => PartState::Ok,
            Availability::Away => PartState::Away,
        }
    }
}

/// One part, with one connection to it for each worker, or a single one.
#[derive(Debug)]
pub struct Part {
    connections: Box<[Mutex<Connection>]>,
}

#[derive(Debug, Clone, Copy)]
struct Connection {
    state: PartState,
    /// Whether it was up once.
    was_reached: bool,
}

impl Part {
    fn new(connections: usize, state: PartState) -> Self {
        let connection = |_| Mutex::new(Connection { state, was_reached: false });
        Self { connections: (0..connections).map(connection).collect() }
    }

    /// Notes the state of one connection, from 0. Numbers beyond the last are ignored.
    pub fn set(&self, connection: usize, state: impl Into<PartState>) {
        let Some(connection) = self.connections.get(connection) else { return };
        let state = state.into();
        let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
        *connection = Connection { state, was_reached: connection.was_reached || state == PartState::Ok };
    }

    /// The state of the part: that of its worst connection.
    pub fn state(&self) -> PartState {
        self.connections().map(|connection| connection.state).max().unwrap_or(PartState::Off)
    }

    fn expect(&self) {
        for connection in 0..self.connections.len() {
            self.set(connection, PartState::Starting);
        }
    }

    /// Whether every connection that is not off was up once.
    fn was_reached(&self) -> bool {
        self.connections().all(|connection| connection.was_reached || connection.state == PartState::Off)
    }

    fn connections(&self) -> impl Iterator<Item = Connection> {
        self.connections.iter().map(|connection| *connection.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How long a worker may stand still before the process counts as dead. Its loop turns ten times a second.
const STILL_MAX: Duration = Duration::from_secs(15);

/// Percent of the connections that may be there: from the first on a replica is full, and below the second it has room again.
/// The way between them keeps a balancer from being told something else all the time.
const FULL_PERCENT: usize = 95;
const ROOM_PERCENT: usize = 90;

/// The turn of a worker that has ended.
const ENDED: u64 = u64::MAX;

/// Health of the process; shared by its threads.
#[derive(Debug)]
pub struct Health {
    began: Instant,
    /// When the loop of each worker last turned, ms since `began`.
    turns: Box<[AtomicU64]>,
    listening: AtomicBool,
    draining: AtomicBool,
    /// The queue for messages of devices, one connection for each worker.
    pub queue: Part,
    /// The registry.
    pub registry: Part,
    /// NATS, through which replicas coordinate; off unless [`Health::expect_coordination`].
    pub coordination: Part,
    /// Where commands come from, one connection for each worker; off unless [`Health::expect_commands`].
    commands: Part,
    /// Room for further connections; off unless [`Health::expect_room`].
    capacity: Part,
}

/// A look at the health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// Whether new devices should come here.
    pub ready: bool,
    /// Whether the process is ending.
    pub draining: bool,
    /// The queue for messages of devices.
    pub queue: PartState,
    /// The registry.
    pub registry: PartState,
    /// NATS, through which replicas coordinate.
    pub coordination: PartState,
    /// Where commands come from.
    pub commands: PartState,
    /// Room for further connections.
    pub capacity: PartState,
}

impl Health {
    /// A process with this many workers that has reached nothing yet.
    pub fn new(workers: usize) -> Self {
        Self {
            began: Instant::now(),
            turns: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            listening: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            queue: Part::new(workers, PartState::Starting),
            registry: Part::new(1, PartState::Starting),
            coordination: Part::new(1, PartState::Off),
            commands: Part::new(workers, PartState::Off),
            capacity: Part::new(1, PartState::Off),
        }
    }

    /// As [`Health::new`], begun a minute ago, with no turn of a worker since.
    #[cfg(test)]
    pub(super) fn standing_still(workers: usize) -> Self {
        let minute = Duration::from_secs(60);
        Self { began: Instant::now().checked_sub(minute).expect("the machine runs that long"), ..Self::new(workers) }
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.turns.len()
    }

    /// Notes that the loop of a worker, from 0, has turned. Numbers beyond the last are ignored.
    pub fn turned(&self, worker: usize) {
        self.note_turn(worker, self.now_ms());
    }

    /// Notes that a worker has come to its end: it need not turn any more.
    pub fn ended(&self, worker: usize) {
        self.note_turn(worker, ENDED);
    }

    /// Whether the loop of every worker turned within the last 15 s.
    pub fn lives(&self) -> bool {
        self.turned_within(STILL_MAX)
    }

    /// Whether the loop of every worker that has not ended turned within that time.
    pub fn turned_within(&self, longest: Duration) -> bool {
        self.turned_within_at(longest, self.now_ms())
    }

    /// Time since the loop of a worker, from 0, last turned; `None` once it has ended, and for numbers beyond the last.
    pub fn turned_ago(&self, worker: usize) -> Option<Duration> {
        let turn_ms = self.turns.get(worker)?.load(Ordering::Relaxed);
        (turn_ms != ENDED).then(|| Duration::from_millis(self.now_ms().saturating_sub(turn_ms)))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(ENDED - 1)
    }

    fn note_turn(&self, worker: usize, turn_ms: u64) {
        if let Some(turn) = self.turns.get(worker) {
            turn.store(turn_ms, Ordering::Relaxed);
        }
    }

    fn turned_within_at(&self, longest: Duration, now_ms: u64) -> bool {
        let still = |turn: &AtomicU64| Duration::from_millis(now_ms.saturating_sub(turn.load(Ordering::Relaxed)));
        self.turns.iter().all(|turn| still(turn) <= longest)
    }

    /// Notes that replicas coordinate: that part is starting until its connections say otherwise.
    pub fn expect_coordination(&self) {
        self.coordination.expect();
    }

    /// Notes that commands come from somewhere: that part is starting until its connections say otherwise.
    pub fn expect_commands(&self) {
        self.commands.expect();
    }

    /// Notes whether commands can come to a worker, from 0; nothing where none are expected.
    pub fn set_commands(&self, worker: usize, availability: Availability) {
        if self.commands.state() != PartState::Off {
            self.commands.set(worker, availability);
        }
    }

    /// Notes that the process is ready only while it has room for further connections.
    pub fn expect_room(&self) {
        self.capacity.set(0, PartState::Ok);
    }

    /// Notes how many percent of the connections that may be there are; nothing where no room is expected.
    pub fn set_used(&self, percent: usize) {
        let state = self.capacity.state();
        if state == PartState::Ok && percent >= FULL_PERCENT {
            self.capacity.set(0, PartState::Full);
        } else if state == PartState::Full && percent < ROOM_PERCENT {
            self.capacity.set(0, PartState::Ok);
        }
    }

    /// Notes that every listener is bound.
    pub fn set_listening(&self) {
        self.listening.store(true, Ordering::Release);
    }

    /// Notes that the process is ending; there is no way back.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Ready: listeners bound, queue and registry reached once, not ending, and not full where that counts. A later outage
    /// shows in the parts alone, for taking every replica out at once would help nobody.
    pub fn readiness(&self) -> Readiness {
        let draining = self.draining.load(Ordering::Acquire);
        let listening = self.listening.load(Ordering::Acquire);
        let capacity = self.capacity.state();
        let was_reached = self.queue.was_reached() && self.registry.was_reached();
        Readiness {
            ready: listening && !draining && was_reached && capacity != PartState::Full,
            draining,
            queue: self.queue.state(),
            registry: self.registry.state(),
            coordination: self.coordination.state(),
            commands: self.commands.state(),
            capacity,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Health {
        let health = Health::new(2);
        health.set_listening();
        health.registry.set(0, PartState::Ok);
        health.queue.set(0, Availability::Ok);
        health.queue.set(1, Availability::Ok);
        health
    }

    #[test]
    fn ready_means_listening_and_every_connection_reached_once() {
        let health = Health::new(2);
        assert!(!health.readiness().ready);
        health.registry.set(0, PartState::Ok);
        health.queue.set(0, PartState::Ok);
        health.queue.set(1, PartState::Ok);
        assert!(!health.readiness().ready, "not listening yet");
        health.set_listening();
        assert!(health.readiness().ready);
        let one = Health::new(2);
        one.set_listening();
        one.registry.set(0, PartState::Ok);
        one.queue.set(0, PartState::Ok);
        assert!(!one.readiness().ready, "the second worker has not reached the queue");
        assert_eq!(one.readiness().queue, PartState::Starting);
    }

    #[test]
    fn the_process_lives_while_every_worker_that_has_not_ended_turns() {
        let health = Health::new(2);
        let lives_at = |now_ms| health.turned_within_at(STILL_MAX, now_ms);
        assert!(health.lives() && lives_at(15_000), "it has as long to begin");
        assert!(!lives_at(15_001));
        health.note_turn(0, 20_000);
        health.note_turn(1, 10_000);
        assert!(lives_at(25_000) && !lives_at(25_001));
        health.turned(7);
        assert!(health.turned_ago(0) == Some(Duration::ZERO) && health.turned_ago(7).is_none());
        health.ended(1);
        assert_eq!(health.turned_ago(1), None);
        assert!(lives_at(35_000) && !lives_at(35_001));
        health.ended(0);
        assert!(lives_at(1 << 40));
    }

    #[test]
    fn an_outage_shows_and_leaves_the_process_ready() {
        let health = ready();
        health.queue.set(1, Availability::Away);
        let readiness = health.readiness();
        assert!(readiness.ready);
        assert_eq!(readiness.queue, PartState::Away);
    }

    #[test]
    fn a_draining_process_is_not_ready() {
        let health = ready();
        health.set_draining();
        let readiness = health.readiness();
        assert!(!readiness.ready && readiness.draining);
    }

    #[test]
    fn a_full_replica_is_not_ready_until_a_tenth_is_free_where_that_counts() {
        let health = ready();
        health.set_used(100);
        assert_eq!((health.readiness().capacity, health.readiness().ready), (PartState::Off, true));
        health.expect_room();
        let ready_at = |percent| {
            health.set_used(percent);
            let readiness = health.readiness();
            assert_eq!(readiness.ready, readiness.capacity == PartState::Ok, "{readiness:?}");
            readiness.ready
        };
        let ready = [0, 94, 95, 200, 94, 90, 89, 90, 94, 95].map(ready_at);
        assert_eq!(ready, [true, true, false, false, false, false, true, true, true, false]);
    }

    #[test]
    fn coordination_is_off_until_it_is_expected_and_never_holds_readiness_back() {
        let health = ready();
        assert_eq!(health.readiness().coordination, PartState::Off);
        health.expect_coordination();
        let readiness = health.readiness();
        assert_eq!((readiness.coordination, readiness.ready), (PartState::Starting, true));
    }
}
