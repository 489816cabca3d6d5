//! The rest of the replica as one worker sees it, and what the worker tells it about sessions.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::protocol::id::DeviceId;
use crate::protocol::uplink::SlotId;
use crate::replica::claim::ClaimKind;
use crate::replica::{ClusterEvent, Directory, Entry, WorkerMessage, WorkerSender};
use crate::session::mqtt::{Ending, LatePresence};
use crate::transport::connection_limit::ConnectionLimit;

/// One worker's access to the rest of the replica.
#[derive(Debug, Clone)]
pub struct ReplicaHandle {
    /// Number of this worker.
    pub index: usize,
    /// The sessions of the replica; its clock and that of all workers must be the same.
    pub directory: Arc<Directory>,
    /// The limit of connections, and whether the replica shuts down.
    pub connection_limit: Arc<ConnectionLimit>,
    /// Mailboxes of all workers, by number.
    pub worker_senders: Arc<[WorkerSender]>,
    /// TransportKind to the other replicas; `None`: this one stands alone.
    pub cluster_events: Option<mpsc::UnboundedSender<ClusterEvent>>,
}

impl ReplicaHandle {
    /// Tells other replicas something about a session.
    pub(super) fn say(&self, kind: ClaimKind, device: &DeviceId, session: &str) {
        if let Some(cluster_events) = &self.cluster_events {
            // The part that speaks with other replicas outlives the workers.
            let _ended =
                cluster_events.send(ClusterEvent::Claim { kind, device: device.clone(), session: session.into() });
        }
    }

    /// Asks for [`WorkerMessage::BarrierReached`].
    pub(super) fn ask_for_claims(&self) {
        if let Some(cluster_events) = &self.cluster_events {
            // The part that speaks with other replicas outlives the workers.
            let _ended = cluster_events.send(ClusterEvent::AwaitBarrier { worker: self.index });
        }
    }

    /// Makes newer sessions of the device say `online` once more: here, and on other replicas.
    pub(super) fn tell_late(&self, device: &DeviceId, slot: SlotId, session: &str, late: LatePresence) {
        let entry = self.directory.find(device.as_str());
        if let Some(newer) = entry.filter(|entry| (entry.worker, entry.slot) != (self.index, slot)) {
            // What this worker handed over in order and saw stored is in order.
            if late == LatePresence::Stored && newer.worker == self.index {
                return;
            }
            if let Some(worker_sender) = self.worker_senders.get(newer.worker) {
                worker_sender.send(WorkerMessage::Announce(newer.slot));
            }
        }
        self.say(ClaimKind::Late, device, session);
    }

    /// Ends a session of another worker.
    pub(super) fn end_elsewhere(&self, session: &Entry, ending: Ending) {
        if let Some(worker_sender) = self.worker_senders.get(session.worker) {
            worker_sender.send(WorkerMessage::End(session.slot, ending));
        }
    }
}
