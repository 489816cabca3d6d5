//! Types of envelopes.

use std::fmt;

use crate::protocol::topic::MessageType;

/// Type of an envelope. Every envelope has one of [`EnvelopeType::all`]; `docs/wire.md` lists the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EnvelopeType {
    /// A message about a device, from itself or from the bridge: one that goes up, or [`MessageType::Acknowledge`].
    Device(MessageType),
    /// Something of a device that is no message.
    Rejected,
    /// The heartbeat of a replica.
    Replica,
    /// The outcome of something that cannot be read as a command.
    CommandFailed,
}

impl EnvelopeType {
    /// Every type that is written.
    pub fn all() -> impl Iterator<Item = EnvelopeType> {
        let of_devices = MessageType::all().filter(|own| own.goes_up() || *own == MessageType::Acknowledge);
        let of_bridge = [EnvelopeType::Rejected, EnvelopeType::Replica, EnvelopeType::CommandFailed];
        of_devices.map(EnvelopeType::Device).chain(of_bridge)
    }

    /// Whether the type begins with `org.jetlinks.device.`; the others begin with `org.jetlinks.bridge.`.
    pub(super) fn is_about_device(self) -> bool {
        matches!(self, EnvelopeType::Device(_))
    }

    /// What follows that beginning.
    pub(super) fn end(self) -> &'static str {
        match self {
            EnvelopeType::Device(message_type) => message_type.dotted(),
            EnvelopeType::Rejected => "rejected",
            EnvelopeType::Replica => "replica",
            EnvelopeType::CommandFailed => "command.failed",
        }
    }
}

impl fmt::Display for EnvelopeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = if self.is_about_device() { "org.jetlinks.device." } else { "org.jetlinks.bridge." };
        write!(f, "{start}{}", self.end())
    }
}
