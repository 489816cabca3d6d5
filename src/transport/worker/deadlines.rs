//! Deadlines of the commands that wait for a reply, and the commands that outlived their session.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::protocol::uplink::SlotId;
use crate::session::mqtt::Pending;

/// Deadlines of commands that were answered, kept before they are looked for.
const ANSWERED_MAX: usize = 4096;

/// The deadlines of one worker's commands. 16 bytes a deadline; of answered commands at most [`ANSWERED_MAX`], and as many as wait.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// Time and session, the earliest first. A command that is answered leaves its deadline behind.
    sessions: BinaryHeap<Reverse<(u64, SlotId)>>,
    /// Commands of sessions that were taken over, which their devices may still answer elsewhere.
    orphaned: Vec<Pending>,
}

impl Deadlines {
    /// Remembers when a session's commands are looked at. True: most deadlines belong to answered commands, of the
    /// `waiting` ones there are so few; [`Deadlines::replace`] must follow.
    pub(super) fn note(&mut self, deadline_us: u64, session: SlotId, waiting: usize) -> bool {
        self.sessions.push(Reverse((deadline_us, session)));
        self.sessions.len() > 2 * waiting + ANSWERED_MAX
    }

    /// Takes the deadlines of all commands that wait in the place of those that are there.
    pub(super) fn replace(&mut self, waiting: impl Iterator<Item = (u64, SlotId)>) {
        self.sessions = waiting.map(Reverse).collect();
    }

    /// A session whose commands are to be looked at, for a deadline of it is over.
    pub(super) fn due(&mut self, now_us: u64) -> Option<SlotId> {
        let Reverse((deadline_us, _)) = self.sessions.peek()?;
        if *deadline_us > now_us {
            return None;
        }
        self.sessions.pop().map(|Reverse((_, session))| session)
    }

    /// Keeps commands whose session was taken over after they were written.
    pub(super) fn keep_orphaned(&mut self, commands: Vec<Pending>) {
        self.orphaned.extend(commands);
    }

    /// Takes those of them out whose time is over.
    pub(super) fn orphaned_due(&mut self, now_us: u64) -> impl Iterator<Item = Pending> + '_ {
        self.orphaned.extract_if(.., move |command| command.deadline_us <= now_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(slot: u32) -> SlotId {
        SlotId { index: slot, generation: 3 }
    }

    #[test]
    fn sessions_come_in_the_order_of_their_deadlines_and_not_before() {
        let mut deadlines = Deadlines::default();
        for (deadline_us, slot) in [(300, 3), (100, 1), (200, 2), (100, 4)] {
            assert!(!deadlines.note(deadline_us, session(slot), 4));
        }
        assert_eq!(deadlines.due(99), None);
        let mut first = [deadlines.due(100), deadlines.due(100)];
        first.sort_by_key(|due| due.map(|due| due.index));
        assert_eq!(first, [Some(session(1)), Some(session(4))]);
        assert_eq!(deadlines.due(100), None);
        assert_eq!(
            [deadlines.due(400), deadlines.due(400), deadlines.due(400)],
            [Some(session(2)), Some(session(3)), None]
        );
    }

    #[test]
    fn deadlines_of_answered_commands_are_bounded() {
        let mut deadlines = Deadlines::default();
        let waiting = 10;
        let kept = (0..).take_while(|&number| !deadlines.note(1_000 + number, session(1), waiting)).count();
        assert_eq!(kept, 2 * waiting + ANSWERED_MAX);
        deadlines.replace([(2_000, session(2)), (1_000, session(3))].into_iter());
        assert_eq!(
            [deadlines.due(3_000), deadlines.due(3_000), deadlines.due(3_000)],
            [Some(session(3)), Some(session(2)), None]
        );
        assert!(!deadlines.note(1_000, session(1), 0));
    }
}
