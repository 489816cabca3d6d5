//! Remains of what cannot be read as a command.

use crate::protocol::trace::TraceContext;

/// Something that cannot be read as a command, with what its caller may know it by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnreadableCommand {
    /// What is wrong with it.
    pub text: String,
    /// Its `messageId`, where it is a JSON object that has one.
    pub message_id: Option<String>,
    /// Its header `correlation-id`; never empty.
    pub correlation_id: Option<String>,
    /// Partition and offset of its record, where it is one.
    pub record: Option<(i32, i64)>,
    /// Where its trace stands: what its outcome carries as `traceparent`.
    pub trace: Option<TraceContext>,
}

impl UnreadableCommand {
    /// The header `correlation-id`, else the message id, else nothing.
    pub fn correlation(&self) -> &str {
        self.correlation_id.as_deref().or(self.message_id.as_deref()).unwrap_or_default()
    }
}
