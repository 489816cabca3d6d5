//! The rest of the replica as one worker sees it, and what the worker tells it about sessions.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::protocol::id::DeviceId;
use crate::protocol::uplink::Token;
use crate::replica::claim::Word;
use crate::replica::{Directory, Entry, Mail, Mailbox, Notice};
use crate::session::mqtt::{Ending, LatePresence};
use crate::transport::gate::Gate;

/// See the module.
#[derive(Debug, Clone)]
pub struct ReplicaHandle {
    /// Number of this worker.
    pub index: usize,
    /// The sessions of the replica; its clock and that of all workers must be the same.
    pub directory: Arc<Directory>,
    /// The limit of connections, and whether the replica shuts down.
    pub gate: Arc<Gate>,
    /// Mailboxes of all workers, by number.
    pub mailboxes: Arc<[Mailbox]>,
    /// Way to the other replicas; `None`: this one stands alone.
    pub notices: Option<mpsc::UnboundedSender<Notice>>,
}

impl ReplicaHandle {
    /// Tells other replicas something about a session.
    pub(super) fn say(&self, word: Word, device: &DeviceId, session: &str) {
        if let Some(notices) = &self.notices {
            // The part that speaks with other replicas outlives the workers.
            let _ended = notices.send(Notice::Say { word, device: device.clone(), session: session.into() });
        }
    }

    /// Asks for [`Mail::CaughtUp`].
    pub(super) fn ask_for_claims(&self) {
        if let Some(notices) = &self.notices {
            // The part that speaks with other replicas outlives the workers.
            let _ended = notices.send(Notice::CatchUp { worker: self.index });
        }
    }

    /// Makes newer sessions of the device say `online` once more: here, and on other replicas.
    pub(super) fn tell_late(&self, device: &DeviceId, token: Token, session: &str, late: LatePresence) {
        let entry = self.directory.find(device.as_str());
        if let Some(newer) = entry.filter(|entry| (entry.worker, entry.token) != (self.index, token)) {
            // What this worker handed over in order and saw stored is in order.
            if late == LatePresence::Stored && newer.worker == self.index {
                return;
            }
            if let Some(mailbox) = self.mailboxes.get(newer.worker) {
                mailbox.send(Mail::Announce(newer.token));
            }
        }
        self.say(Word::Late, device, session);
    }

    /// Ends a session of another worker.
    pub(super) fn end_elsewhere(&self, session: &Entry, ending: Ending) {
        if let Some(mailbox) = self.mailboxes.get(session.worker) {
            mailbox.send(Mail::End(session.token, ending));
        }
    }
}
