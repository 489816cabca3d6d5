//! The agreement of replicas about which of them holds the session of a device. It makes decisions, without I/O or a clock.
//!
//! 1. Each `handle_*` method takes one input and the time: a claim of another replica, an event of a worker of this replica,
//!    a change of the channel, or a tick.
//! 2. [`Coordination::poll_output`] is called until it returns `None`. It returns claims to publish, barriers to send,
//!    messages to workers, and reports for operators.
//! 3. While the channel was away, claims were missed. When it connects, also for the first time, all sessions of this
//!    replica are claimed again, some at each tick while [`Coordination::wants_tick`]: [`CLAIMS_PER_TICK`], and of all replicas
//!    together [`CLAIMS_PER_TICK_OF_ALL`], as they all do so at once when NATS is back. Claims about late presence are
//!    published again, too.
//!
//! With the feature `bridge`, `coordinate` runs it on a `ClaimChannel`.

mod others;
#[cfg(feature = "bridge")]
mod run;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use self::others::OtherReplicas;
#[cfg(feature = "bridge")]
pub use self::run::{ChannelEvent, ClaimChannel, coordinate};
use super::claim::{Claim, ClaimError, ClaimKind, Decision, PATIENCE_US, Question};
use super::late::LateSessions;
use super::{ClusterEvent, Directory, WorkerMessage};
use crate::protocol::id::DeviceId;
use crate::protocol::limit::Now;
use crate::session::mqtt::Ending;

/// Number of claims at each tick after an outage. A tick comes each 10 ms, so this makes 50,000 a second.
const CLAIMS_PER_TICK: usize = 500;

/// Number of claims at each tick of all replicas that were heard recently, together: 100,000 a second. Each replica hears all of
/// them. One thread hears 285,000 a second without a loss; where more come, claims are lost and all is claimed anew.
const CLAIMS_PER_TICK_OF_ALL: usize = 1_000;

/// An action that the caller must take after an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Publish this claim to all replicas.
    Publish(Claim),
    /// Send the barrier with that number. [`Coordination::handle_barrier`] must be called when it comes back, after every
    /// claim that other replicas have published before.
    SendBarrier(u64),
    /// Send this message to the worker with that index.
    WorkerMessage(usize, WorkerMessage),
    /// Report this to operators.
    Report(Report),
}

/// Event for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// The channel is connected.
    Connected,
    /// The channel is away.
    Disconnected,
    /// Another replica claimed a device with an older session. This replica claims its newer one again.
    Insisted,
    /// Another replica claimed a device with a newer session. This replica asks whether that session still lives.
    Asked,
    /// A session of this replica gave way to one of another replica.
    Yielded,
    /// A message on the channel was not a valid claim.
    Ignored {
        /// The reason.
        error: ClaimError,
        /// Whether it is the first with this reason since the start.
        is_first: bool,
    },
}

/// One replica's state of the agreement; the module describes its use.
#[derive(Debug)]
pub struct Coordination {
    replica_id: Box<str>,
    directory: Arc<Directory>,
    is_connected: bool,
    /// Time of the last question to another replica, us.
    asked_us: u64,
    /// Claims that are still to be published after an outage.
    unclaimed: VecDeque<(ClaimKind, DeviceId, Box<str>)>,
    late: LateSessions,
    barriers: Barriers,
    others: OtherReplicas,
    /// Errors that were reported before. There are three, so this stays small.
    ignored: Vec<ClaimError>,
    outputs: VecDeque<Output>,
}

impl Coordination {
    /// The state of the replica with that id. `directory` has its sessions.
    pub fn new(replica_id: &str, directory: Arc<Directory>) -> Self {
        Self {
            replica_id: replica_id.into(),
            directory,
            is_connected: false,
            asked_us: 0,
            unclaimed: VecDeque::new(),
            late: LateSessions::default(),
            barriers: Barriers::default(),
            others: OtherReplicas::default(),
            ignored: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// The next action, in order; `None` when there are no more for the inputs so far.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether [`Coordination::handle_tick`] has something to do.
    pub fn wants_tick(&self) -> bool {
        !self.unclaimed.is_empty()
    }

    /// Applies a claim that came on the channel. Claims of this replica, which come back, are ignored.
    pub fn handle_claim(&mut self, claim: &Claim, now: Now) {
        if *claim.replica == *self.replica_id {
            return;
        }
        self.others.hear(&claim.replica, now.us);
        if claim.kind == ClaimKind::Time && self.directory.is_ahead_of(claim.said, now) {
            return self.publish_time(now);
        }
        let Some((decision, entry)) = self.directory.hear(claim, now) else { return };
        let (device, to_worker) = (&*claim.device, |message| Output::WorkerMessage(entry.worker, message));
        match decision {
            Decision::Insist => {
                self.outputs.push_back(Output::Report(Report::Insisted));
                self.publish(ClaimKind::Held, device, &entry.session, None, now);
            }
            Decision::Ask(question) => {
                self.asked_us = now.us;
                self.outputs.push_back(Output::Report(Report::Asked));
                self.publish(ClaimKind::Asked, device, &claim.session, Some(question), now);
            }
            Decision::Answer(question) => {
                self.outputs.push_back(to_worker(WorkerMessage::Replaces(entry.slot)));
                self.publish(ClaimKind::Lives, device, &entry.session, Some(question), now);
            }
            Decision::Yield => {
                self.outputs.push_back(Output::Report(Report::Yielded));
                self.outputs.push_back(to_worker(WorkerMessage::End(entry.slot, Ending::TakenOver)));
                self.publish(ClaimKind::Yielded, device, &claim.session, None, now);
            }
            Decision::Won => self.outputs.push_back(to_worker(WorkerMessage::Reassert(entry.slot))),
            Decision::Announce => self.outputs.push_back(to_worker(WorkerMessage::Announce(entry.slot))),
        }
    }

    /// Reports a message on the channel that is not a valid claim.
    pub fn handle_ignored(&mut self, error: ClaimError) {
        let is_first = !self.ignored.contains(&error);
        if is_first {
            self.ignored.push(error);
        }
        self.outputs.push_back(Output::Report(Report::Ignored { error, is_first }));
    }

    /// Handles an event of a worker of this replica.
    pub fn handle_event(&mut self, event: ClusterEvent, now: Now) {
        match event {
            ClusterEvent::Claim { kind, device, session } => {
                self.publish(kind, device.as_str(), &session, None, now);
                if kind == ClaimKind::Late {
                    self.late.note(device, session, self.is_connected, now.us);
                }
            }
            ClusterEvent::AwaitBarrier { worker } => {
                let number = self.barriers.send(worker);
                self.outputs.push_back(Output::SendBarrier(number));
            }
        }
    }

    /// Begins to claim every session again: the channel is connected, and claims were missed while it was not.
    pub fn handle_connected(&mut self, now: Now) {
        self.is_connected = true;
        self.outputs.push_back(Output::Report(Report::Connected));
        self.publish_time(now);
        let held = self.directory.all().into_iter().map(|(device, session)| (ClaimKind::Held, device, session));
        let late = self.late.republish_all(now.us).map(|(device, session)| (ClaimKind::Late, device, session));
        self.unclaimed = held.chain(late).collect();
    }

    /// Notes that the channel is away. Claims that are published now are lost, and perhaps those of the last moments.
    pub fn handle_disconnected(&mut self, now: Now) {
        self.is_connected = false;
        self.outputs.push_back(Output::Report(Report::Disconnected));
        self.unclaimed.clear();
        self.late.disconnected(now.us);
    }

    /// Notes that a barrier came back, so that every claim that was published before it has been handled. A barrier may
    /// come back more than once.
    pub fn handle_barrier(&mut self, number: u64) {
        if let Some(worker) = self.barriers.take(number) {
            // All missed claims are known now, but the answer to a question about one of them may still be on its way.
            let settled_us = self.asked_us + PATIENCE_US;
            self.outputs.push_back(Output::WorkerMessage(worker, WorkerMessage::BarrierReached { settled_us }));
        }
    }

    /// Publishes the next claims after an outage.
    pub fn handle_tick(&mut self, now: Now) {
        let replicas = self.others.count(now.us) + 1;
        for _ in 0..(CLAIMS_PER_TICK_OF_ALL / replicas).clamp(1, CLAIMS_PER_TICK) {
            let Some((kind, device, session)) = self.unclaimed.pop_front() else { return };
            self.publish(kind, device.as_str(), &session, None, now);
        }
    }

    /// Publishes a claim about a session. A claim that the session is here is dropped if the session has ended since.
    fn publish(&mut self, kind: ClaimKind, device: &str, session: &str, question: Option<Question>, now: Now) {
        let (since, said) = match kind {
            ClaimKind::Begun | ClaimKind::Held | ClaimKind::Lives => match self.directory.since(device, session, now) {
                Some(times) => times,
                None => return,
            },
            // A session that has ended counts as older than any other.
            ClaimKind::Late => {
                self.directory.since(device, session, now).unwrap_or_else(|| (0, self.directory.time(now)))
            }
            _ => (0, self.directory.time(now)),
        };
        let (device, session, replica) = (device.into(), session.into(), self.replica_id.clone());
        self.outputs.push_back(Output::Publish(Claim { kind, device, session, replica, since, said, question }));
    }

    fn publish_time(&mut self, now: Now) {
        self.publish(ClaimKind::Time, "", "", None, now);
    }
}

/// The barriers that workers wait for. Each number can come back twice: from the server, and when its timeout is over. The
/// second may come after the next suspension of the process, so an old number must not count for a new barrier.
#[derive(Debug, Default)]
struct Barriers {
    last: u64,
    /// The number that each worker waits for.
    waiting: HashMap<usize, u64>,
}

impl Barriers {
    /// Returns the number of a new barrier of a worker. The worker's earlier barriers are forgotten.
    fn send(&mut self, worker: usize) -> u64 {
        self.last += 1;
        self.waiting.insert(worker, self.last);
        self.last
    }

    /// Removes the barrier with that number, and returns the worker that waits for it.
    fn take(&mut self, number: u64) -> Option<usize> {
        let worker = self.waiting.iter().find(|(_, waiting)| **waiting == number).map(|(worker, _)| *worker)?;
        self.waiting.remove(&worker);
        Some(worker)
    }
}

#[cfg(test)]
mod tests;
