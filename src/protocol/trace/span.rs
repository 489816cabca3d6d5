//! Spans: one operation of the bridge each.

use bytes::Bytes;

use super::{SpanId, TraceContext};
use crate::protocol::uplink::Channel;

/// Operation that a span covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A record on its way to the queue, from the receipt of the message to the receipt of the queue.
    Uplink(Channel),
    /// A command, from its receipt to its outcome.
    Command,
}

/// One span, only ever made where the trace is sampled; about 300 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Trace and span id.
    pub context: TraceContext,
    /// The parent span.
    pub parent: Option<SpanId>,
    /// The operation.
    pub operation: Operation,
    /// The type of the message as envelopes write it (`properties.report`), or what stands in for it.
    pub message: &'static str,
    /// Product of the connected device; empty when it is not known.
    pub product: String,
    /// The device that the message is about; empty when it is not known.
    pub device: String,
    /// The connected gateway, when the device is a child.
    pub gateway: Option<String>,
    /// Key or subject of a record; of a command what follows the prefix of its subject.
    pub address: Bytes,
    /// Id of the envelope, message id of the command; empty when it is not known.
    pub message_id: String,
    /// Correlation id of a command; empty for all other operations.
    pub correlation_id: String,
    /// Start, us since 1970.
    pub start_us: u64,
    /// Duration, us.
    pub duration_us: u64,
    /// Failure of the operation, in a word.
    pub failure: Option<&'static str>,
}

impl Span {
    /// Bytes that it takes, itself included.
    pub fn held_bytes(&self) -> usize {
        let texts = [&self.product, &self.device, &self.message_id, &self.correlation_id];
        let gateway = self.gateway.as_ref().map_or(0, String::capacity);
        size_of::<Self>() + texts.into_iter().map(String::capacity).sum::<usize>() + gateway + self.address.len()
    }
}
