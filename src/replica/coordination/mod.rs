//! The part of a replica that agrees with the others who holds a device: decisions alone, without I/O or a clock.
//!
//! 1. A `handle_*` call brings one input: a claim of another replica, a notice of an own worker, the state of the channel, a
//!    tick. Each brings the time.
//! 2. [`Coordination::poll_output`] is called until it gives `None`: claims to publish, barriers to send, mail to workers, and
//!    what operators are told.
//! 3. When the channel is connected, again or for the first time, claims were missed: every session that is held is claimed
//!    anew, [`BATCH`] at each tick while [`Coordination::wants_tick`]. Presence that was late is told again.
//!
//! `coordinate` drives it over a `ClaimChannel`, with the feature `bridge`.

#[cfg(feature = "bridge")]
mod run;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

#[cfg(feature = "bridge")]
pub use self::run::{ChannelEvent, ClaimChannel, coordinate};
use super::claim::{Claim, ClaimError, ClaimKind, Decision, PATIENCE_US, Question};
use super::late::LateSessions;
use super::{ClusterEvent, Directory, WorkerMessage};
use crate::protocol::id::DeviceId;
use crate::protocol::limit::Now;
use crate::session::mqtt::Ending;

/// Sessions that are claimed at a tick after an outage. With the pause between ticks: 50,000 a second.
const BATCH: usize = 500;

/// An act that follows from an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Publish this claim to all replicas.
    Publish(Claim),
    /// Send the barrier of that number, and bring it back by [`Coordination::handle_barrier`] behind every claim that other
    /// replicas have published until then.
    SendBarrier(u64),
    /// Send this to the worker of that index.
    WorkerMessage(usize, WorkerMessage),
    /// Tell operators.
    Report(Report),
}

/// News for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// The channel is connected.
    Connected,
    /// The channel is away.
    Disconnected,
    /// Another replica claimed a device with an older session, and hears that this one holds a newer one.
    Insisted,
    /// Another replica claimed a device with a newer session, and is asked whether that lives.
    Asked,
    /// A session of this replica gave way to one of another replica.
    Yielded,
    /// A message on the channel was no claim that counts.
    Ignored {
        /// The reason.
        error: ClaimError,
        /// Whether it is the first with this reason since the start.
        is_first: bool,
    },
}

/// The state of the agreement, of one replica. See the module for its use.
#[derive(Debug)]
pub struct Coordination {
    replica_id: Box<str>,
    directory: Arc<Directory>,
    is_connected: bool,
    /// When a question was asked last, us.
    asked_us: u64,
    /// Sessions to be claimed anew.
    unclaimed: VecDeque<(ClaimKind, DeviceId, Box<str>)>,
    late: LateSessions,
    barriers: Barriers,
    /// Reasons that operators have heard of; there are three.
    ignored: Vec<ClaimError>,
    outputs: VecDeque<Output>,
}

impl Coordination {
    /// The part of the replica of that id, whose sessions are in `directory`.
    pub fn new(replica_id: &str, directory: Arc<Directory>) -> Self {
        Self {
            replica_id: replica_id.into(),
            directory,
            is_connected: false,
            asked_us: 0,
            unclaimed: VecDeque::new(),
            late: LateSessions::default(),
            barriers: Barriers::default(),
            ignored: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// The next act, in order; `None` when the inputs so far ask for no more.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether [`Coordination::handle_tick`] has something to do.
    pub fn wants_tick(&self) -> bool {
        !self.unclaimed.is_empty()
    }

    /// Applies a claim that came on the channel; those of this replica itself have no effect.
    pub fn handle_claim(&mut self, claim: &Claim, now: Now) {
        if *claim.replica == *self.replica_id {
            return;
        }
        if claim.kind == ClaimKind::Time && self.directory.is_ahead_of(claim.said, now) {
            return self.publish_time(now);
        }
        let Some((decision, entry)) = self.directory.hear(claim, now) else { return };
        let (device, mail) = (&*claim.device, |mail| Output::WorkerMessage(entry.worker, mail));
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
                self.outputs.push_back(mail(WorkerMessage::Replaces(entry.token)));
                self.publish(ClaimKind::Lives, device, &entry.session, Some(question), now);
            }
            Decision::Yield => {
                self.outputs.push_back(Output::Report(Report::Yielded));
                self.outputs.push_back(mail(WorkerMessage::End(entry.token, Ending::TakenOver)));
                self.publish(ClaimKind::Yielded, device, &claim.session, None, now);
            }
            Decision::Won => self.outputs.push_back(mail(WorkerMessage::Reassert(entry.token))),
            Decision::Announce => self.outputs.push_back(mail(WorkerMessage::Announce(entry.token))),
        }
    }

    /// Notes a message on the channel that is no claim that counts.
    pub fn handle_ignored(&mut self, error: ClaimError) {
        let is_first = !self.ignored.contains(&error);
        if is_first {
            self.ignored.push(error);
        }
        self.outputs.push_back(Output::Report(Report::Ignored { error, is_first }));
    }

    /// Takes what a worker of this replica tells.
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

    /// Begins to claim every session anew: the channel is connected, and claims were missed.
    pub fn handle_connected(&mut self, now: Now) {
        self.is_connected = true;
        self.outputs.push_back(Output::Report(Report::Connected));
        self.publish_time(now);
        let held = self.directory.all().into_iter().map(|(device, session)| (ClaimKind::Held, device, session));
        let late = self.late.republish_all(now.us).map(|(device, session)| (ClaimKind::Late, device, session));
        self.unclaimed = held.chain(late).collect();
    }

    /// Notes that the channel is away: what is published is lost, also what was published in the last moments.
    pub fn handle_disconnected(&mut self, now: Now) {
        self.is_connected = false;
        self.outputs.push_back(Output::Report(Report::Disconnected));
        self.unclaimed.clear();
        self.late.disconnected(now.us);
    }

    /// Notes that a barrier came back: every claim published before it was handled. It may come back more than once.
    pub fn handle_barrier(&mut self, number: u64) {
        if let Some(worker) = self.barriers.take(number) {
            // Missed claims are known by now, but a question about one of them may not be answered yet.
            let settled_us = self.asked_us + PATIENCE_US;
            self.outputs.push_back(Output::WorkerMessage(worker, WorkerMessage::BarrierReached { settled_us }));
        }
    }

    /// Claims the next sessions after an outage.
    pub fn handle_tick(&mut self, now: Now) {
        for _ in 0..BATCH {
            let Some((kind, device, session)) = self.unclaimed.pop_front() else { return };
            self.publish(kind, device.as_str(), &session, None, now);
        }
    }

    /// Publishes a claim about a session, unless it says that the session is here and that is not so any more.
    fn publish(&mut self, kind: ClaimKind, device: &str, session: &str, question: Option<Question>, now: Now) {
        let (since, said) = match kind {
            ClaimKind::Begun | ClaimKind::Held | ClaimKind::Lives => match self.directory.since(device, session, now) {
                Some(times) => times,
                None => return,
            },
            // One that has ended is older than any that is there.
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

/// The barriers that workers wait for. Each number comes back twice, from the server and after the longest time that it may
/// take, which may be after the next suspension of the process.
#[derive(Debug, Default)]
struct Barriers {
    last: u64,
    /// The number that each worker waits for.
    waiting: HashMap<usize, u64>,
}

impl Barriers {
    /// The number of a worker's next barrier; its earlier ones mean nothing any more.
    fn send(&mut self, worker: usize) -> u64 {
        self.last += 1;
        self.waiting.insert(worker, self.last);
        self.last
    }

    /// The worker that waits for that barrier, and does not from now on.
    fn take(&mut self, number: u64) -> Option<usize> {
        let worker = self.waiting.iter().find(|(_, waiting)| **waiting == number).map(|(worker, _)| *worker)?;
        self.waiting.remove(&worker);
        Some(worker)
    }
}

#[cfg(test)]
mod tests;
