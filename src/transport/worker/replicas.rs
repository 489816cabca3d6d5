//! A worker's part in the coordination of replicas.

use super::Worker;
use crate::protocol::id::DeviceId;
use crate::protocol::limit::Now;
use crate::replica::claim::Word;
use crate::replica::{Mail, Notice};
use crate::session::mqtt::LatePresence;
use crate::transport::mqtt::connection::Connection;

impl Worker {
    /// Tells other replicas something about a session.
    pub(in crate::transport) fn say(&self, word: Word, device: &DeviceId, session: &str) {
        if let Some(notices) = &self.notices {
            // The part that speaks with other replicas outlives the workers.
            let _ended = notices.send(Notice::Say { word, device: device.clone(), session: session.into() });
        }
    }

    /// Makes newer sessions of the device say `online` once more: here, and on other replicas.
    pub(super) fn tell_late(&self, connection: &Connection, session: &str, late: LatePresence) {
        let entry = self.directory.find(connection.device.as_str());
        if let Some(newer) =
            entry.filter(|entry| (entry.worker, entry.token) != (self.settings.index, connection.token))
        {
            // What this worker handed over in order and saw stored is in order.
            if late == LatePresence::Stored && newer.worker == self.settings.index {
                return;
            }
            if let Some(mailbox) = self.mailboxes.get(newer.worker) {
                mailbox.send(Mail::Announce(newer.token));
            }
        }
        self.say(Word::Late, &connection.device, session);
    }

    /// Notices that the process stood still; commands are held back then.
    pub(super) fn look_for_freeze(&self, now: Now) {
        let Some(notices) = &self.notices else { return };
        let mut fences = self.fences.borrow_mut();
        if self.freeze.borrow_mut().look(now.us, fences.next()) {
            tracing::warn!(
                worker = self.settings.index,
                "the process stood still: no command is delivered until what was missed is known"
            );
            // The part that speaks with other replicas outlives the workers.
            let _ended = notices.send(Notice::CatchUp { worker: self.settings.index });
            let number = fences.ask();
            if !self.core.borrow_mut().downlink.fence(number) {
                self.freeze.borrow_mut().commands_are_here(number);
            }
        }
    }
}
