//! Commands that come before the session that they are for.

use crate::protocol::command::{Command, CommandError};
use crate::protocol::downlink::Ticket;
use crate::protocol::limit::{Limits, Load};

/// One command, as it came from the queue.
pub(super) type EarlyCommand = (Option<Ticket>, Result<Command, CommandError>);

/// The commands of a session that is about to begin. At most `commands.pending_per_device`, and within the bytes that all
/// commands of the worker may keep: these are kept whole.
#[derive(Debug, Default)]
pub(super) struct EarlyCommands {
    waiting: Vec<EarlyCommand>,
}

impl EarlyCommands {
    /// Keeps a command; gives it back where there is no room.
    pub(super) fn push(&mut self, command: EarlyCommand, limits: &Limits, load: &mut Load) -> Option<EarlyCommand> {
        let bytes = held_bytes(&command);
        if self.waiting.len() >= limits.commands_per_device || !load.takes_command(bytes, limits) {
            return Some(command);
        }
        load.command_bytes += bytes;
        self.waiting.push(command);
        None
    }

    /// Takes all out.
    pub(super) fn take(self, load: &mut Load) -> Vec<EarlyCommand> {
        load.release_command(self.waiting.iter().map(held_bytes).sum());
        self.waiting
    }
}

fn held_bytes((_, command): &EarlyCommand) -> usize {
    command.as_ref().map_or_else(CommandError::held_bytes, Command::held_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        packet_bytes: 0,
        inflight_per_connection: 0,
        inflight_bytes: 8 * 10_000,
        ack_timeout_us: 0,
        keep_alive_max_us: 0,
        command_timeout_ms: 0,
        command_timeout_max_ms: 0,
        commands_per_device: 3,
        commands: 0,
    };

    fn command(bytes: usize) -> EarlyCommand {
        (Some(Ticket(1)), Command::from_subject("product1.device1.direct", &vec![b'x'; bytes]))
    }

    #[test]
    fn commands_before_their_session_are_bounded_in_number_and_bytes_and_give_back_what_they_took() {
        let mut load = Load::default();
        let mut early = EarlyCommands::default();
        assert!(early.push(command(8_000), &LIMITS, &mut load).is_none());
        assert!(load.command_bytes > 8_000);
        assert!(early.push(command(8_000), &LIMITS, &mut load).is_some(), "more bytes than commands may keep");
        let unreadable = (None, Err(CommandError::unreadable("x".repeat(8_000))));
        assert!(early.push(unreadable, &LIMITS, &mut load).is_some(), "as above");
        assert!(early.push(command(1), &LIMITS, &mut load).is_none());
        assert!(early.push(command(1), &LIMITS, &mut load).is_none());
        assert!(early.push(command(1), &LIMITS, &mut load).is_some(), "more than a device may have waiting");
        assert_eq!((early.take(&mut load).len(), load.command_bytes), (3, 0));
    }
}
