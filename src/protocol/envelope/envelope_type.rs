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

    /// The type as the envelope has it, in two parts.
    pub(super) fn parts(self) -> (&'static str, &'static str) {
        const BRIDGE: &str = "org.jetlinks.bridge.";
        match self {
            EnvelopeType::Device(message_type) => ("org.jetlinks.device.", message_type.dotted()),
            EnvelopeType::Rejected => (BRIDGE, "rejected"),
            EnvelopeType::Replica => (BRIDGE, "replica"),
            EnvelopeType::CommandFailed => (BRIDGE, "command.failed"),
        }
    }
}

impl fmt::Display for EnvelopeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, end) = self.parts();
        write!(f, "{start}{end}")
    }
}
