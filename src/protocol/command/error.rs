//! Why a command cannot be carried out.

use super::CommandIdentity;

/// Why a command cannot be carried out; the texts are for its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandError {
    /// It cannot be read at all: no JSON object, no address, no subject of this prefix.
    Unreadable(String),
    /// A field or a header is not what the message type wants.
    Parameter(Box<CommandIdentity>, String),
    /// Its type does not go to devices.
    Unsupported(Box<CommandIdentity>, String),
}
