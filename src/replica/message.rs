//! Messages between the workers and the rest of the replica.

use crate::protocol::id::DeviceId;
use crate::protocol::uplink::SlotId;
use crate::replica::claim::ClaimKind;
use crate::session::mqtt::Ending;

/// A message to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerMessage {
    /// End that session.
    End(SlotId, Ending),
    /// Write `online` of that session once more: presence of an earlier session may be stored behind it.
    Announce(SlotId),
    /// A session on another replica is about to give way to that session.
    Replaces(SlotId),
    /// Declare the interest of that session in its commands once more.
    Reassert(SlotId),
    /// All claims that other replicas made before [`ClusterEvent::AwaitBarrier`] are known.
    BarrierReached {
        /// Time at which they are applied, too, us of the worker's clock.
        settled_us: u64,
    },
    /// Let some sessions drain, whichever have waited longest for their turn, so that their devices connect again.
    Shed {
        /// Number of sessions.
        count: usize,
    },
    /// Stop accepting, and drain the sessions at a rate.
    Drain {
        /// Sessions that start to drain each second.
        per_second: u64,
    },
}

/// A message of a worker to the coordination of the replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterEvent {
    /// Publish a claim about a session to the other replicas.
    Claim {
        /// The kind of the claim.
        kind: ClaimKind,
        /// The device.
        device: DeviceId,
        /// ULID of the session.
        session: Box<str>,
    },
    /// The worker was suspended, and waits for [`WorkerMessage::BarrierReached`].
    AwaitBarrier {
        /// Index of the worker.
        worker: usize,
    },
}
