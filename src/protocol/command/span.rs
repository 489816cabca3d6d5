//! The span of a command.

use bytes::Bytes;

use super::CommandIdentity;
use crate::protocol::address::command_address;
use crate::protocol::limit::Now;
use crate::protocol::topic::MessageType;
use crate::protocol::trace::{Operation, Span, TraceContext};

/// Bytes of a caller's id that a span keeps.
const TEXT_BYTES_MAX: usize = 256;

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
            let CommandIdentity { product, device, children, .. } = identity;
            span.address = command_address(product, device, children, span.message).into();
            span.message_id = bounded(identity.message_id.as_deref().unwrap_or_default());
            span.correlation_id = bounded(identity.correlation());
        }
        Some(Box::new(span))
    }
}

/// As much of a caller's text as a span keeps while it waits.
fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}
