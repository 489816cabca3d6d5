//! Why a command cannot be carried out.

use super::CommandIdentity;
use crate::protocol::trace::TraceContext;

/// Why a command cannot be carried out; the texts are for its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandError {
    /// It cannot be read at all: no JSON object, no address, no subject of this prefix.
    /// Where its caller's trace stands is known all the same.
    Unreadable(String, Option<TraceContext>),
    /// A field or a header is not what the message type wants.
    Parameter(Box<CommandIdentity>, String),
    /// Its type does not go to devices.
    Unsupported(Box<CommandIdentity>, String),
}

impl CommandError {
    /// Where the trace of the command stands, and so that of its outcome.
    pub fn trace_mut(&mut self) -> &mut Option<TraceContext> {
        match self {
            CommandError::Unreadable(_, trace) => trace,
            CommandError::Parameter(identity, _) | CommandError::Unsupported(identity, _) => &mut identity.trace,
        }
    }

    /// What is known of the command.
    pub fn identity(&self) -> Option<&CommandIdentity> {
        match self {
            CommandError::Unreadable(..) => None,
            CommandError::Parameter(identity, _) | CommandError::Unsupported(identity, _) => Some(identity),
        }
    }
}
