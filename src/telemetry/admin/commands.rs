//! Commands as operators give them.

use std::time::Duration;

use hyper::body::Bytes;

use super::sessions::Waiting;

/// Body of a command at most, in bytes.
pub const COMMAND_BYTES_MAX: usize = 64 * 1024;

/// A command that is on its way.
pub struct SentCommand {
    /// The outcome comes within this time.
    pub longest: Duration,
    /// The envelope of the outcome, in structured mode.
    pub outcome: Waiting<'static, Result<String, CommandRefusal>>,
}

/// Why a command has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandRefusal {
    /// It is no command; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// The bridge takes no commands.
    #[error("commands.queue is \"none\": this bridge gives devices no commands")]
    NoCommands,
    /// No replica that can be reached has the device.
    #[error("{0}")]
    Offline(String),
    /// Too many commands wait.
    #[error("too many commands wait for their outcome")]
    Busy,
    /// The outcome did not come, or could not be carried; the device may have got the command.
    #[error("{0}")]
    Unanswered(String),
}

/// The way of commands to the devices of this replica and of others.
pub trait Commands: Send + Sync {
    /// Sends a command, written as one from Kafka or stdin.
    ///
    /// # Errors
    /// It was not sent.
    fn send(&self, command: Bytes) -> Result<SentCommand, CommandRefusal>;
}
