//! Why a command cannot be carried out.

use super::{CommandIdentity, UnreadableCommand};
use crate::protocol::trace::TraceContext;

/// Why a command cannot be carried out; the texts are for its caller.
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
    /// Something that cannot be read at all, and of which nothing is known.
    pub fn unreadable(text: impl Into<String>) -> Self {
        CommandError::Unreadable(Box::new(UnreadableCommand { text: text.into(), ..UnreadableCommand::default() }))
    }

    /// What is wrong, for the caller.
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
                let ids = [&command.message_id, &command.correlation_id].into_iter().flatten();
                size_of::<UnreadableCommand>() + command.text.capacity() + ids.map(String::capacity).sum::<usize>()
            }
            CommandError::Parameter(identity, text) | CommandError::Unsupported(identity, text) => {
                size_of::<CommandIdentity>() + identity.heap_bytes() + text.capacity()
            }
        };
        size_of::<Self>() + content
    }

    /// Where the trace of the command stands, and so that of its outcome.
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
