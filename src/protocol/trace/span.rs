//! Spans: one operation of the bridge each.

use bytes::Bytes;

use super::{SpanId, TraceContext};
use crate::protocol::address;
use crate::protocol::command::CommandIdentity;
use crate::protocol::limit::Now;
use crate::protocol::topic::MessageType;
use crate::protocol::uplink::Channel;

/// Bytes of a caller's id that a span keeps.
const TEXT_BYTES_MAX: usize = 256;

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
    /// The span of a command that begins at this moment; `None` where the trace is not sampled.
    pub fn of_command(
        trace: Option<TraceContext>,
        parent: Option<TraceContext>,
        identity: Option<&CommandIdentity>,
        now: Now,
    ) -> Option<Box<Self>> {
        let context = trace.filter(|trace| trace.sampled)?;
        let mut span = Self {
            context,
            parent: parent.map(|parent| parent.span_id),
            operation: Operation::Command,
            message: "unreadable",
            product: String::new(),
            device: String::new(),
            gateway: None,
            address: Bytes::new(),
            message_id: String::new(),
            correlation_id: String::new(),
            start_us: now.unix_ms.saturating_mul(1000),
            duration_us: 0,
            failure: None,
        };
        if let Some(identity) = identity {
            span.message = identity.message_type.map_or("unknown", MessageType::dotted);
            span.product.clone_from(&identity.product);
            identity.about().clone_into(&mut span.device);
            span.gateway = (!identity.children.is_empty()).then(|| identity.device.clone());
            span.address = address_of(identity, span.message).into();
            span.message_id = bounded(identity.message_id.as_deref().unwrap_or_default());
            span.correlation_id = bounded(identity.correlation());
        }
        Some(Box::new(span))
    }
}

impl Span {
    /// Bytes that it takes, itself included.
    pub fn held_bytes(&self) -> usize {
        let texts = [&self.product, &self.device, &self.message_id, &self.correlation_id];
        let gateway = self.gateway.as_ref().map_or(0, String::capacity);
        size_of::<Self>() + texts.into_iter().map(String::capacity).sum::<usize>() + gateway + self.address.len()
    }
}

/// As much of a caller's text as a span keeps while it waits.
fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

fn address_of(identity: &CommandIdentity, dotted: &str) -> String {
    let mut text = format!("{}.{}", address::token(&identity.product), address::token(&identity.device));
    for child in &identity.children {
        text.push_str(".child.");
        text.push_str(&address::token(child));
    }
    text.push('.');
    text.push_str(dotted);
    text
}
