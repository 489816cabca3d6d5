//! Envelopes: the records of the queue, as CloudEvents 1.0 (JSON format 1.0 in structured mode).
//!
//! A device cannot set an attribute: `origin` names the author, and text of devices is escaped everywhere.

mod device_path;
mod encoder;
mod head;
mod outcome;
mod presence;
mod replacement;

use std::fmt;

pub use encoder::Encoder;
pub use replacement::Replacement;

use crate::protocol::address::SUBJECT_BYTES_MAX;
use crate::protocol::topic::MessageType;

/// Content mode of CloudEvents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The value is the whole envelope.
    Structured,
    /// The value is `data`; the attributes travel beside it.
    Binary,
}

/// Type of an envelope. Every envelope has one of [`EnvelopeType::all`]; `docs/wire.md` lists the same ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EnvelopeType {
    /// A message about a device, from itself or from the bridge: one that goes up, or [`MessageType::Acknowledge`].
    Device(MessageType),
    /// A rejected message of a device.
    Rejected,
    /// The heartbeat of a replica.
    Replica,
    /// The outcome of an unreadable command.
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

    /// The type without that beginning.
    pub fn end(self) -> &'static str {
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

/// The connected device that an envelope comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source<'a> {
    /// Product of the connected device, as its topics name it.
    pub product: &'a str,
    /// The connected device.
    pub device: &'a str,
    /// The session's ULID as text; `None` for CoAP.
    pub session: Option<&'a str>,
    /// The registry's product of the device that the message is about; `None` when it is that of the topic or unknown.
    pub about_product: Option<&'a str>,
}

/// Cause of the end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The device said DISCONNECT.
    Disconnected,
    /// The connection broke.
    ConnectionLost,
    /// The device was silent for too long.
    KeepAlive,
    /// An operator or the registry ended it, or a command did.
    Kicked,
    /// The bridge is shutting down.
    Drained,
    /// The device broke the protocol.
    ProtocolError,
    /// The queue did not acknowledge in time.
    NotAcknowledged,
    /// A newer session took the device over, and the `online` of this one may stand behind that of the newer one.
    SupersededByPolicy,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Cause; 8] = [
        Cause::Disconnected,
        Cause::ConnectionLost,
        Cause::KeepAlive,
        Cause::Kicked,
        Cause::Drained,
        Cause::ProtocolError,
        Cause::NotAcknowledged,
        Cause::SupersededByPolicy,
    ];

    /// The cause as `data.headers.cause` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Disconnected => "disconnected",
            Cause::ConnectionLost => "connection_lost",
            Cause::KeepAlive => "keep_alive",
            Cause::Kicked => "kicked",
            Cause::Drained => "drained",
            Cause::ProtocolError => "protocol_error",
            Cause::NotAcknowledged => "not_acknowledged",
            Cause::SupersededByPolicy => "superseded_by_policy",
        }
    }
}

/// Reason why a message of a device was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The topic is the device's own and carries no message.
    UnknownTopic,
    /// The payload is no message of the topic's type.
    Undecodable,
    /// Topic, payload, subject or record are over their limit.
    TooLarge,
    /// The registry gives the child to somebody else.
    ForeignChild,
    /// A rule of the queue refuses this record alone.
    Refused,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 5] =
        [Reason::UnknownTopic, Reason::Undecodable, Reason::TooLarge, Reason::ForeignChild, Reason::Refused];

    /// The reason as envelopes and metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::UnknownTopic => "unknown_topic",
            Reason::Undecodable => "undecodable",
            Reason::TooLarge => "too_large",
            Reason::ForeignChild => "foreign_child",
            Reason::Refused => "refused",
        }
    }
}

/// The detail of a message whose subject would have more than [`SUBJECT_BYTES_MAX`] bytes.
pub(crate) fn subject_too_long() -> String {
    format!("the subject would have more than {SUBJECT_BYTES_MAX} bytes")
}

/// A message of a device that was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection<'a> {
    /// The topic as received.
    pub topic: &'a str,
    /// The payload as received; `None` for [`Reason::TooLarge`].
    pub payload: Option<&'a [u8]>,
    /// The reason.
    pub reason: Reason,
    /// Description of the mistake, for people.
    pub detail: &'a str,
}
