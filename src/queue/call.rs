//! What a caller of a device gets from a queue.

use std::fmt;

use bytes::Bytes;

/// The outcome of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The envelope, or in binary mode its `data`.
    pub payload: Bytes,
    /// Binary mode: the envelope's attributes by their bare names.
    pub attributes: Vec<(String, String)>,
    /// Code and text of a failure of the bridge, where the queue carries them beside the envelope.
    pub failure: Option<(String, String)>,
}

/// Why a command has no outcome; the texts are the client's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// The settings cannot be used.
    Settings(String),
    /// The queue does not answer.
    Unreachable(String),
    /// The stream or the topic does not exist.
    Missing(String),
    /// Nobody holds a session of the device at this moment; the command was not delivered.
    NoResponders,
    /// No outcome in time; the device may have got the command.
    TimedOut,
    /// The queue was lost while the outcome was waited for.
    Lost(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Settings(cause) => write!(f, "the queue's settings cannot be used: {cause}"),
            CallError::Unreachable(cause) => write!(f, "the queue does not answer: {cause}"),
            CallError::Missing(name) => write!(f, "{name} does not exist"),
            CallError::NoResponders => {
                f.write_str("no responders: no bridge has a session of the device at this moment")
            }
            CallError::TimedOut => f.write_str("no outcome in time; the device may have got the command"),
            CallError::Lost(cause) => write!(f, "the queue was lost: {cause}"),
        }
    }
}

impl std::error::Error for CallError {}

impl From<super::ReadError> for CallError {
    fn from(error: super::ReadError) -> Self {
        match error {
            super::ReadError::Settings(cause) => CallError::Settings(cause),
            super::ReadError::Unreachable(cause) | super::ReadError::Waiting(cause) => CallError::Unreachable(cause),
            super::ReadError::Missing(name) => CallError::Missing(name),
            super::ReadError::Lost(cause) | super::ReadError::Unreadable(cause) => CallError::Lost(cause),
        }
    }
}
