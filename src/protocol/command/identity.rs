//! Address and ids of a command, which its outcome needs.

use crate::protocol::topic::MessageType;
use crate::protocol::trace::TraceContext;

/// Address and ids of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandIdentity {
    /// Product of the connected device.
    pub product: String,
    /// The connected device.
    pub device: String,
    /// Children between the connected gateway and the addressed child, that one last.
    pub children: Vec<String>,
    /// Message type of the command; `None` for an unknown one.
    pub message_type: Option<MessageType>,
    /// The message id, once there is one.
    pub message_id: Option<String>,
    /// Header `correlation-id`; never empty.
    pub correlation_id: Option<String>,
    /// The registry's product of the device that was meant, when it is known to differ from [`CommandIdentity::product`].
    pub about_product: Option<String>,
    /// Trace context of the command: the `traceparent` of its outcomes.
    pub trace: Option<TraceContext>,
}

impl CommandIdentity {
    /// The addressed device: the last child, else the connected device.
    pub fn about(&self) -> &str {
        self.children.last().unwrap_or(&self.device)
    }

    /// Bytes that it takes beside itself.
    pub fn heap_bytes(&self) -> usize {
        let texts = [&self.product, &self.device].into_iter().chain(&self.children);
        let optional = [&self.message_id, &self.correlation_id, &self.about_product];
        texts.chain(optional.into_iter().flatten()).map(String::capacity).sum::<usize>()
            + self.children.capacity() * size_of::<String>()
    }

    /// The header `correlation-id`, else the message id, else nothing.
    pub fn correlation(&self) -> &str {
        self.correlation_id.as_deref().or(self.message_id.as_deref()).unwrap_or_default()
    }

    /// The type of its outcomes: the reply's, else [`MessageType::Acknowledge`].
    pub fn reply_type(&self) -> MessageType {
        self.message_type.and_then(MessageType::reply).unwrap_or(MessageType::Acknowledge)
    }
}
