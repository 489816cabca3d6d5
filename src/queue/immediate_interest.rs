//! Interests of sessions where a queue needs no declaration: in place at once.

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::protocol::downlink::{Downlink, DownlinkEvent, Outcome, Ticket};
use crate::protocol::id::{DeviceId, ProductId};
use crate::protocol::uplink::SlotId;

/// Tells a worker of each session that its interest is in place; as a queue, one that brings no commands.
#[derive(Debug)]
pub struct ImmediateInterest {
    sessions: mpsc::UnboundedSender<SlotId>,
    task: JoinHandle<()>,
}

impl ImmediateInterest {
    /// Starts on the calling thread, inside a `LocalSet`; `events` are those of the worker.
    ///
    /// # Panics
    /// Outside a `LocalSet`.
    pub fn start(events: mpsc::Sender<DownlinkEvent>) -> Self {
        // Bounded by the sessions of the worker: each is attached once.
        let (sessions, mut attached) = mpsc::unbounded_channel();
        let task = tokio::task::spawn_local(async move {
            while let Some(session) = attached.recv().await {
                if events.send(DownlinkEvent::Attached(session)).await.is_err() {
                    return;
                }
            }
        });
        Self { sessions, task }
    }
}

impl Downlink for ImmediateInterest {
    fn attach(&mut self, session: SlotId, _addresses: &[(ProductId, DeviceId)]) {
        // Fails only when the worker has stopped taking events.
        let _ended = self.sessions.send(session);
    }

    fn detach(&mut self, _session: SlotId) {}

    fn answer(&mut self, _ticket: Ticket, _outcome: Outcome) {}
}

impl Drop for ImmediateInterest {
    fn drop(&mut self) {
        self.task.abort();
    }
}
