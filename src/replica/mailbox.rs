//! Messages between the workers and the rest of the replica.

use tokio::sync::mpsc;

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

/// Sends to one worker; cheap to clone. Letters are rare (takeovers, kicks), so the box has no bound of its own: at most
/// one letter a session is under way.
#[derive(Debug, Clone)]
pub struct Mailbox {
    sender: mpsc::UnboundedSender<Mail>,
}

impl Mailbox {
    /// A mailbox and the end that its worker reads.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Mail>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender }, receiver)
    }

    /// Sends; a worker that has ended has no sessions, so nothing is lost.
    pub fn send(&self, mail: Mail) {
        let _ended = self.sender.send(mail);
    }
}
