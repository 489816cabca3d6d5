//! Messages between the workers and the rest of the replica.

use crate::protocol::id::DeviceId;
use crate::protocol::uplink::Token;
use crate::replica::claim::Word;
use crate::session::mqtt::Ending;

/// A message to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mail {
    /// End that session.
    End(Token, Ending),
    /// Say once more that the device of that session is online: presence of an earlier session may stand behind it.
    Announce(Token),
    /// A session on another replica is about to give way to that session.
    Replaces(Token),
    /// Declare the interest of that session in its commands once more.
    Reassert(Token),
    /// All claims that other replicas made before [`Notice::CatchUp`] are known.
    CaughtUp {
        /// When they are applied, too, us of the worker's clock.
        settled_us: u64,
    },
    /// Stop accepting, and end every session once its messages are acknowledged; so many a second.
    Drain {
        /// Sessions that start to drain each second.
        per_second: u64,
    },
}

/// A message of a worker to the part that speaks with other replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Something about a session that other replicas must hear.
    Say {
        /// The kind of the claim.
        word: Word,
        /// The device.
        device: DeviceId,
        /// ULID of the session.
        session: Box<str>,
    },
    /// The worker was frozen, and wants to hear [`Mail::CaughtUp`].
    CatchUp {
        /// Which one it is.
        worker: usize,
    },
}
