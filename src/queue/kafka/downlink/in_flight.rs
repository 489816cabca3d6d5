//! Commands in flight, from their record to the acknowledgement of their outcome.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::outgoing::Outgoing;
use super::partitions::Origin;
use crate::protocol::command::CommandIdentity;
use crate::protocol::trace::Span;
use crate::queue::Slots;

/// One command in flight.
#[derive(Debug)]
pub(super) struct InFlightCommand {
    /// The record that it came from.
    pub(super) origin: Origin,
    /// The command as its outcome names it; `None` for a record that could not be read.
    pub(super) identity: Option<Box<CommandIdentity>>,
    /// The step that it has come to.
    pub(super) stage: Stage,
    /// Bytes towards the bound on bytes: those of its record, later of its outcome.
    pub(super) bytes: usize,
    /// The end of its waiting, if this side has to end it.
    pub(super) deadline: Option<Instant>,
    /// The span of a command that was handed over, where its trace is sampled, and when it began.
    pub(super) span: Option<(Box<Span>, Instant)>,
}

impl InFlightCommand {
    /// A command that waits, without bytes of its own and without an end of its waiting.
    pub(super) fn new(origin: Origin, identity: Option<Box<CommandIdentity>>) -> Self {
        Self { origin, identity, stage: Stage::Waiting, bytes: 0, deadline: None, span: None }
    }
}

/// The steps of a command.
#[derive(Debug)]
pub(super) enum Stage {
    /// A worker or another replica has it.
    Waiting,
    /// Its outcome is with the producer, or waits to be sent again.
    Answering(Outgoing),
}

/// All commands in flight, by a number that is never used again while somebody may still know it.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    commands: Slots<InFlightCommand>,
    bytes: usize,
    deadlines: BTreeSet<(Instant, u64)>,
}

impl InFlight {
    /// Adds a command; its number.
    pub(super) fn insert(&mut self, command: InFlightCommand) -> u64 {
        self.bytes += command.bytes;
        let deadline = command.deadline;
        let number = self.commands.insert(command);
        self.deadlines.extend(deadline.map(|deadline| (deadline, number)));
        number
    }

    /// The command of that number.
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut InFlightCommand> {
        self.commands.get_mut(number)
    }

    /// Sets the bytes of a command towards the bound.
    pub(super) fn set_bytes(&mut self, number: u64, bytes: usize) {
        if let Some(command) = self.commands.get_mut(number) {
            let before = std::mem::replace(&mut command.bytes, bytes);
            self.bytes = self.bytes + bytes - before;
        }
    }

    /// Takes a command out.
    pub(super) fn remove(&mut self, number: u64) -> Option<InFlightCommand> {
        let command = self.commands.remove(number)?;
        self.bytes -= command.bytes;
        if let Some(deadline) = command.deadline {
            self.deadlines.remove(&(deadline, number));
        }
        Some(command)
    }

    /// Takes out all commands for which the question is true.
    pub(super) fn forget(&mut self, is_meant: impl Fn(&InFlightCommand) -> bool) {
        let meant: Vec<u64> =
            self.commands.iter().filter(|(_, command)| is_meant(command)).map(|(number, _)| number).collect();
        for number in meant {
            self.remove(number);
        }
    }

    /// The next command that still waits although its time is over.
    pub(super) fn pop_expired(&mut self, now: Instant) -> Option<u64> {
        while self.deadlines.first().is_some_and(|(deadline, _)| *deadline <= now) {
            let (_, number) = self.deadlines.pop_first()?;
            if self.get_mut(number).is_some_and(|command| matches!(command.stage, Stage::Waiting)) {
                return Some(number);
            }
        }
        None
    }

    /// The number of commands.
    pub(super) fn len(&self) -> usize {
        self.commands.len()
    }

    /// Bytes of their records, and of their outcomes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::queue::kafka::downlink::partitions::Partitions;

    fn command(deadline: Option<Instant>) -> InFlightCommand {
        let mut partitions = Partitions::default();
        partitions.assign(&[0]);
        let origin = partitions.take(0, 0).expect("the partition is here");
        InFlightCommand { bytes: 10, deadline, ..InFlightCommand::new(origin, None) }
    }

    #[test]
    fn a_number_counts_the_bytes_of_one_command_even_when_its_slot_is_taken_again() {
        let mut in_flight = InFlight::default();
        let first = in_flight.insert(command(None));
        assert!(in_flight.remove(first).is_some());
        let second = in_flight.insert(command(None));
        assert!(in_flight.remove(first).is_none());
        assert_eq!((in_flight.len(), in_flight.bytes()), (1, 10));
        in_flight.set_bytes(first, 70);
        in_flight.set_bytes(second, 7);
        assert_eq!(in_flight.bytes(), 7, "the outcome counts in the place of the record");
        in_flight.forget(|command| command.deadline.is_none());
        assert!(in_flight.remove(second).is_none());
        assert_eq!((in_flight.len(), in_flight.bytes()), (0, 0));
    }

    #[test]
    fn only_what_still_waits_expires_and_once() {
        let mut in_flight = InFlight::default();
        let now = Instant::now();
        let [early, late, gone] =
            [1, 2, 1].map(|seconds| in_flight.insert(command(Some(now + Duration::from_secs(seconds)))));
        in_flight.remove(gone);
        assert_eq!(in_flight.pop_expired(now), None);
        let then = now + Duration::from_secs(1);
        assert_eq!((in_flight.pop_expired(then), in_flight.pop_expired(then)), (Some(early), None));
        assert_eq!(in_flight.pop_expired(now + Duration::from_secs(2)), Some(late));
    }
}
