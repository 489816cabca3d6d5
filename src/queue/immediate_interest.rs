//! Interests of sessions where a queue needs no declaration: in place at once.

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::protocol::downlink::DownlinkEvent;
use crate::protocol::uplink::DeliveryId;

/// Tells a worker of each session that its interest is in place.
#[derive(Debug)]
pub struct ImmediateInterest {
    tokens: mpsc::UnboundedSender<DeliveryId>,
    task: JoinHandle<()>,
}

impl ImmediateInterest {
    /// Starts on the calling thread, inside a `LocalSet`; `events` are those of the worker.
    ///
    /// # Panics
    /// Outside a `LocalSet`.
    pub fn start(events: mpsc::Sender<DownlinkEvent>) -> Self {
        // Bounded by the sessions of the worker: each is attached once.
        let (tokens, mut attached) = mpsc::unbounded_channel();
        let task = tokio::task::spawn_local(async move {
            while let Some(token) = attached.recv().await {
                if events.send(DownlinkEvent::Attached(token)).await.is_err() {
                    return;
                }
            }
        });
        Self { tokens, task }
    }

    /// Has [`DownlinkEvent::Attached`] follow.
    pub fn attach(&self, token: DeliveryId) {
        // Fails only when the worker has stopped taking events.
        let _ended = self.tokens.send(token);
    }
}

impl Drop for ImmediateInterest {
    fn drop(&mut self) {
        self.task.abort();
    }
}
