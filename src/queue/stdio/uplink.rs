//! Envelopes to stdout.

use std::sync::Arc;

use super::StdioWriter;
use crate::protocol::uplink::{DeliveryId, Handover, Inbox, Record, Uplink};

/// One worker's way to stdout. A receipt means that the line was written and flushed, so a pipe's reader or the file has
/// it as far as the system keeps what it took.
#[derive(Debug)]
pub struct StdioUplink {
    writer: StdioWriter,
    inbox: Arc<Inbox>,
}

impl StdioUplink {
    /// Joins the writer; the inbox hears at once that stdout is there.
    pub fn new(writer: StdioWriter, inbox: Arc<Inbox>) -> Self {
        writer.register(&inbox);
        Self { writer, inbox }
    }
}

impl Uplink for StdioUplink {
    fn publish(&mut self, token: DeliveryId, record: &Record) -> Handover {
        match self.writer.push(&record.payload, token, &self.inbox) {
            true => Handover::Taken,
            false => Handover::Refused,
        }
    }

    fn flush(&mut self) {
        // The writer was woken by the first line and takes all that are there.
    }
}
