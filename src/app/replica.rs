//! This replica as it answers operators, whether they ask it or another one.

use std::sync::Arc;

use super::follow::{self, RemoteFollowers};
use super::shed::Shedding;
use crate::protocol::id::DeviceId;
use crate::replica::request::{
    Answer, Batch, Filter, FollowedLines, ReplicaState, Request, Respond, Selection, SessionPart, SessionRow,
};
use crate::replica::{Directory, Entry, WorkerMessage, WorkerSender};
use crate::session::mqtt::Ending;
use crate::telemetry::follow::Followers;
use crate::telemetry::health::Health;
use crate::transport::Clock;

/// The state of this replica from which operators' requests are answered.
#[derive(Debug)]
pub struct LocalReplica {
    /// Its id.
    pub replica_id: String,
    /// Its sessions.
    pub directory: Arc<Directory>,
    /// Its health.
    pub health: Arc<Health>,
    /// The process' clock.
    pub clock: Clock,
    /// Its shed.
    pub shedding: Arc<Shedding>,
    /// Operators who follow what happens here.
    pub followers: Arc<Followers>,
    /// Operators of this replica who follow what happens on others.
    pub remote: RemoteFollowers,
    /// The ways to its workers.
    pub worker_senders: Arc<[WorkerSender]>,
}

impl LocalReplica {
    /// Its state.
    pub fn state(&self) -> ReplicaState {
        ReplicaState { sessions: self.directory.staying(), draining: self.is_draining(), shed: self.shedding.status() }
    }

    /// Ends the session of a device; whether there was one.
    pub fn end(&self, device: &str, ending: Ending) -> bool {
        let Some(entry) = self.directory.find(device) else { return false };
        let Some(worker_sender) = self.worker_senders.get(entry.worker) else { return false };
        worker_sender.send(WorkerMessage::End(entry.slot, ending));
        true
    }

    /// Sessions that are asked for, behind the first `offset`.
    pub fn sessions(&self, offset: usize, selection: &Selection) -> SessionPart {
        let matches = |device: &DeviceId, entry: &Entry| selection.matches(device.as_str(), entry.product.as_str());
        let after = selection.after.as_deref().unwrap_or_default();
        let (total, has_more, page) = self.directory.page(matches, after, offset, selection.limit);
        let sessions = page.iter().map(|(device, entry)| row(device.as_str(), entry)).collect();
        SessionPart { total, sessions, has_more }
    }
}

impl Respond for LocalReplica {
    fn respond(&self, request: &Request) -> Answer {
        match request {
            // The exchange keeps the followers of other replicas.
            Request::State | Request::Follow(_) | Request::StopFollowing(_) => {}
            Request::Sessions(selection) => return Answer::Sessions(self.sessions(0, selection)),
            Request::End(device) => return Answer::Ended(self.end(device, Ending::Kicked)),
            Request::Shed(_) if self.is_draining() => {}
            Request::Shed(plan) => drop(self.shedding.begin(*plan)),
            Request::StopShedding => self.shedding.stop(),
        }
        Answer::State(self.state())
    }

    fn follow(&self, filter: &Filter) -> Option<Box<dyn FollowedLines>> {
        follow::for_another_replica(&self.followers, filter)
    }

    fn take_lines(&self, id: &str, replica: &str, number: u64, batch: Batch) {
        self.remote.take_lines(id, replica, number, batch);
    }

    fn is_draining(&self) -> bool {
        self.health.readiness().draining
    }

    fn sheds(&self) -> bool {
        self.shedding.is_unsettled()
    }

    fn note_others(&self, shed: bool) {
        self.shedding.note_others(shed);
    }

    fn clocks(&self) -> (u64, u64) {
        let now = self.clock.now();
        (self.directory.time(now), now.us)
    }
}

/// A session as it is told to operators.
pub fn row(device: &str, entry: &Entry) -> SessionRow {
    SessionRow {
        device: device.to_owned(),
        product: entry.product.to_string(),
        session: entry.session.to_string(),
        peer: entry.peer.to_string(),
        connected_ms: entry.connected_ms,
        worker: entry.worker,
    }
}
