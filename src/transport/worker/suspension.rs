//! What a worker does about a suspension of its process, and the barriers by which it knows that it has seen all commands.

use super::barriers::Barriers;
use crate::replica::Freeze;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Suspension {
    pub(super) guard: Freeze,
    pub(super) barriers: Barriers,
}

impl Suspension {
    /// Looks at the clock. When a suspension has just ended, the number of the barrier to be sent into the stream of
    /// commands.
    pub(super) fn look(&mut self, now_us: u64) -> Option<u64> {
        self.guard.look(now_us, self.barriers.next()).then(|| self.barriers.send())
    }

    /// Notes that the barrier of that number is back.
    pub(super) fn note_barrier(&mut self, number: u64) {
        self.barriers.note_returned(number);
        self.guard.commands_are_here(number);
    }
}
