//! The way of messages to a worker.

use tokio::sync::mpsc;

use super::Mail;

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
