//! Promises that a run can break.

use std::fmt;

/// A promise that was broken, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Violation {
    /// Something was acknowledged that is not stored.
    Lost(String),
    /// A consumer takes acknowledged messages in another order than they were sent in.
    Order(String),
    /// Acknowledgements came in another order than the messages.
    Acknowledgement(String),
    /// A device has more than one session, or is connected and has none.
    Sessions(String),
    /// A command has no outcome, or more than one.
    Outcomes(String),
    /// The presence that consumers know of a device is wrong.
    Presence(String),
    /// Something is held for nothing, or more of it than the bounds allow.
    Memory(String),
    /// Nothing is wrong, and a device gets no session or no acknowledgement.
    Standstill(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, text) = match self {
            Violation::Lost(text) => ("acknowledged and not stored", text),
            Violation::Order(text) => ("out of order", text),
            Violation::Acknowledgement(text) => ("acknowledged out of order", text),
            Violation::Sessions(text) => ("sessions", text),
            Violation::Outcomes(text) => ("outcomes", text),
            Violation::Presence(text) => ("presence", text),
            Violation::Memory(text) => ("memory", text),
            Violation::Standstill(text) => ("standstill", text),
        };
        write!(f, "{what}: {text}")
    }
}
