//! Errors of commands that cannot be carried out.

use super::CommandIdentity;
use crate::protocol::trace::TraceContext;

/// Error of a command that cannot be carried out; the texts are for its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandError {
    /// It cannot be read at all: no JSON object, no address, no subject of this prefix.
    Unreadable(Box<UnreadableCommand>),
    /// A field or a header is not what the message type wants.
    Parameter(Box<CommandIdentity>, String),
    /// Its type does not go to devices.
    Unsupported(Box<CommandIdentity>, String),
}

impl CommandError {
    /// An unreadable command without any ids.
    pub fn unreadable(text: impl Into<String>) -> Self {
        CommandError::Unreadable(Box::new(UnreadableCommand { text: text.into(), ..UnreadableCommand::default() }))
    }

    /// Text for the caller.
    pub fn text(&self) -> &str {
        match self {
            CommandError::Unreadable(command) => &command.text,
            CommandError::Parameter(_, text) | CommandError::Unsupported(_, text) => text,
        }
    }

    /// Bytes that it takes, itself included.
    pub fn held_bytes(&self) -> usize {
        let content = match self {
            CommandError::Unreadable(command) => {
                let ids = [&command.message_id, &command.correlation_id, &command.topic].into_iter().flatten();
                let members = command.members.iter().map(|(_, text)| size_of::<(&str, String)>() + text.capacity());
                size_of::<UnreadableCommand>()
                    + command.text.capacity()
                    + command.payload.capacity()
                    + ids.map(String::capacity).sum::<usize>()
                    + members.sum::<usize>()
            }
            CommandError::Parameter(identity, text) | CommandError::Unsupported(identity, text) => {
                size_of::<CommandIdentity>() + identity.heap_bytes() + text.capacity()
            }
        };
        size_of::<Self>() + content
    }

    /// Trace context of the command and of its outcome.
    pub fn trace_mut(&mut self) -> &mut Option<TraceContext> {
        match self {
            CommandError::Unreadable(command) => &mut command.trace,
            CommandError::Parameter(identity, _) | CommandError::Unsupported(identity, _) => &mut identity.trace,
        }
    }

    /// The header `correlation-id` of the command.
    pub fn correlation_id_mut(&mut self) -> &mut Option<String> {
        match self {
            CommandError::Unreadable(command) => &mut command.correlation_id,
            CommandError::Parameter(identity, _) | CommandError::Unsupported(identity, _) => {
                &mut identity.correlation_id
            }
        }
    }

    /// The command's address and ids; `None` for what cannot be read at all.
    pub fn identity(&self) -> Option<&CommandIdentity> {
        match self {
            CommandError::Unreadable(..) => None,
            CommandError::Parameter(identity, _) | CommandError::Unsupported(identity, _) => Some(identity),
        }
    }
}

/// An unreadable command, with the ids that its caller may know it by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnreadableCommand {
    /// Text for the caller.
    pub text: String,
    /// Its `messageId`, where it is a JSON object that has one.
    pub message_id: Option<String>,
    /// Its header `correlation-id`; never empty.
    pub correlation_id: Option<String>,
    /// Those of [`UnreadableCommand::NAMES`] that it has as texts, none longer than an id of a caller may be.
    pub members: Vec<(&'static str, String)>,
    /// Its bytes, the first [`UnreadableCommand::PAYLOAD_BYTES_MAX`] of them, where its caller may not know which it was.
    pub payload: Vec<u8>,
    /// Topic of its record, where it is one.
    pub topic: Option<String>,
    /// Partition and offset of its record, where it is one.
    pub record: Option<(i32, i64)>,
    /// Trace context of the command: the `traceparent` of its outcome.
    pub trace: Option<TraceContext>,
}

impl UnreadableCommand {
    /// Members that are copied into the outcome, as far as they can be read.
    pub const NAMES: [&'static str; 4] = ["productId", "deviceId", "gatewayId", "messageType"];

    /// Bytes of a command that are kept for its outcome.
    pub const PAYLOAD_BYTES_MAX: usize = 4 * 1024;

    /// The header `correlation-id`, else the message id, else nothing.
    pub fn correlation(&self) -> &str {
        self.correlation_id.as_deref().or(self.message_id.as_deref()).unwrap_or_default()
    }
}
