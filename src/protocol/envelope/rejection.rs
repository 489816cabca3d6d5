//! Messages of devices that become rejected envelopes.

use crate::protocol::address::SUBJECT_BYTES_MAX;

/// Why something of a device was rejected.
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

/// Something of a device that was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection<'a> {
    /// The topic as received.
    pub topic: &'a str,
    /// The payload as received; `None` for [`Reason::TooLarge`].
    pub payload: Option<&'a [u8]>,
    /// Why.
    pub reason: Reason,
    /// What exactly is wrong, for people.
    pub detail: &'a str,
}
