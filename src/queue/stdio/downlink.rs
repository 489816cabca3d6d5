//! Sessions towards commands from stdin, and outcomes to stdout.

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::StdioWriter;
use crate::protocol::downlink::{Downlink, DownlinkEvent, Outcome, Ticket};
use crate::protocol::id::{DeviceId, ProductId};
use crate::protocol::uplink::Token;

/// One worker's side of stdin. Interest needs no declaration: the reader finds the worker of a device itself.
#[derive(Debug)]
pub struct StdioDownlink {
    writer: StdioWriter,
    attached: mpsc::UnboundedSender<Token>,
    is_uplink: bool,
    teller: JoinHandle<()>,
}

impl StdioDownlink {
    /// Starts on the calling thread, inside a `LocalSet`; the same `events` must be what the router of
    /// [`super::StdioInput`] gives for the devices of this worker.
    ///
    /// `is_uplink` says whether records go to the same stdout.
    ///
    /// # Panics
    /// Outside a `LocalSet`.
    pub fn new(writer: StdioWriter, events: mpsc::Sender<DownlinkEvent>, is_uplink: bool) -> Self {
        // Bounded by the sessions of the worker: each is attached once.
        let (attached, mut tokens) = mpsc::unbounded_channel();
        let teller = tokio::task::spawn_local(async move {
            while let Some(token) = tokens.recv().await {
                if events.send(DownlinkEvent::Attached(token)).await.is_err() {
                    return;
                }
            }
        });
        Self { writer, attached, is_uplink, teller }
    }
}

impl Drop for StdioDownlink {
    fn drop(&mut self) {
        self.teller.abort();
    }
}

impl Downlink for StdioDownlink {
    fn attach(&mut self, token: Token, _addresses: &[(ProductId, DeviceId)]) {
        // Fails only when the worker has stopped taking events.
        let _ = self.attached.send(token);
    }

    fn detach(&mut self, _token: Token) {}

    fn answer(&mut self, _ticket: Ticket, outcome: Outcome) {
        self.writer.print(outcome.payload);
    }

    fn is_uplink(&self) -> bool {
        self.is_uplink
    }
}
