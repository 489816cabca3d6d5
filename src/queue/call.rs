//! The outcome that a caller of a device gets from a queue.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

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

impl Answer {
    /// The envelope in structured mode, see [`envelope`].
    pub fn envelope(&self) -> String {
        envelope(&self.attributes, &self.payload)
    }
}

/// An envelope as one JSON object: in structured mode, that is without `attributes`, as it is, in binary mode put together
/// from its attributes and its `data`, digits of numbers as they are.
pub fn envelope(attributes: &[(String, String)], payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(payload);
    if attributes.is_empty() {
        return text.into_owned();
    }
    let mut members = BTreeMap::new();
    for (name, value) in attributes {
        members.insert(name.as_str(), serde_json::Value::from(value.as_str()).to_string());
    }
    // What is no JSON at all is shown as a text.
    let data = match serde_json::from_str::<&RawValue>(&text) {
        Ok(_) => text.into_owned(),
        Err(_) => serde_json::Value::from(text.as_ref()).to_string(),
    };
    members.insert("data", data);
    let members: Vec<String> = members.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
    format!("{{{}}}", members.join(","))
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
