//! Where a message came from and what it is.

use super::MessageType;

/// A topic taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route<'a> {
    /// The topic as it was received.
    pub topic: &'a str,
    /// Product of the connected device, as the topic names it.
    pub product: &'a str,
    /// The connected device.
    pub device: &'a str,
    /// From the connected gateway down to the child that is meant; empty (and then not allocated) for the connected
    /// device itself.
    pub children: Vec<&'a str>,
    /// What the topic carries.
    pub message_type: MessageType,
    /// The event's id; present exactly for [`MessageType::Event`].
    pub event: Option<&'a str>,
}

impl<'a> Route<'a> {
    /// The device that the message is about: the last child, else the connected device.
    pub fn about(&self) -> &'a str {
        self.children.last().copied().unwrap_or(self.device)
    }
}
