//! Sessions towards commands from stdin, and outcomes to stdout.

use tokio::sync::mpsc;

use super::StdioWriter;
use crate::protocol::downlink::{Downlink, DownlinkEvent, Outcome, Ticket};
use crate::protocol::id::{DeviceId, ProductId};
use crate::protocol::uplink::SlotId;
use crate::queue::ImmediateInterest;

/// One worker's side of stdin. Interest needs no declaration: the reader finds the worker of a device itself.
#[derive(Debug)]
pub struct StdioDownlink {
    writer: StdioWriter,
    interest: ImmediateInterest,
    is_uplink: bool,
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
        Self { writer, interest: ImmediateInterest::start(events), is_uplink }
    }
}

impl Downlink for StdioDownlink {
    fn attach(&mut self, session: SlotId, addresses: &[(ProductId, DeviceId)]) {
        self.interest.attach(session, addresses);
    }

    fn detach(&mut self, _session: SlotId) {}

    fn answer(&mut self, _ticket: Ticket, outcome: Outcome) {
        self.writer.print(outcome.payload);
    }

    fn is_uplink(&self, _ticket: Ticket) -> bool {
        self.is_uplink
    }
}
