//! Channel to a worker.

use tokio::sync::mpsc;

use super::WorkerMessage;

/// Sender of messages to one worker; cheap to clone. Messages are rare (takeovers, kicks), so the channel is unbounded: at
/// most one message a session is under way.
#[derive(Debug, Clone)]
pub struct WorkerSender {
    sender: mpsc::UnboundedSender<WorkerMessage>,
}

impl WorkerSender {
    /// The sender, and the receiver of its worker.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<WorkerMessage>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender }, receiver)
    }

    /// Sends; a worker that has ended has no sessions, so nothing is lost.
    pub fn send(&self, message: WorkerMessage) {
        let _ended = self.sender.send(message);
    }
}
