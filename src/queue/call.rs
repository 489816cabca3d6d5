//! The outcome that a caller of a device gets from a queue.

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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The settings cannot be used.
    #[error("the queue's settings cannot be used: {0}")]
    Settings(String),
    /// The queue does not answer.
    #[error("the queue does not answer: {0}")]
    Unreachable(String),
    /// The stream or the topic does not exist.
    #[error("{0} does not exist")]
    Missing(String),
    /// Nobody holds a session of the device at this moment; the command was not delivered.
    #[error("no responders: no bridge has a session of the device at this moment")]
    NoResponders,
    /// No outcome in time; the device may have got the command.
    #[error("no outcome in time; the device may have got the command")]
    TimedOut,
    /// The queue was lost while the outcome was waited for.
    #[error("the queue was lost: {0}")]
    Lost(String),
}

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
