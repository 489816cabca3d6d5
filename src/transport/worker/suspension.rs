//! Suspensions of the process, and the barriers by which a worker knows that it has seen all commands.
//!
//! A replica that was suspended (SIGSTOP, a paused machine) may have lost its devices to other replicas, and the commands
//! that it finds waiting may be older than their callers' timeouts. So after a gap between two looks at the clock no
//! command is delivered until two proofs are there, that every claim and that every waiting command has arrived; and one
//! tick more, and the time that other replicas have to say whether what they claimed lives.

/// A gap between two looks at the clock above this counts as a suspension, us.
const GAP_US: u64 = 2_000_000;

/// Holds the commands of one worker back after a suspension.
#[derive(Debug, Default)]
pub(super) struct Suspension {
    pub(super) barriers: Barriers,
    looked_us: Option<u64>,
    was_suspended: bool,
    misses_claims: bool,
    settled_us: u64,
    /// Number of the barrier behind which all commands are here.
    barrier: u64,
}

impl Suspension {
    /// Looks at the clock. When a suspension has just ended, the number of the barrier to be sent into the stream of
    /// commands; the claims must be asked for as well.
    pub(super) fn look(&mut self, now_us: u64) -> Option<u64> {
        let gap_us = self.looked_us.replace(now_us).map_or(0, |looked_us| now_us.saturating_sub(looked_us));
        if gap_us <= GAP_US {
            return None;
        }
        (self.was_suspended, self.misses_claims) = (true, true);
        self.barrier = self.barriers.send();
        Some(self.barrier)
    }

    /// Notes that all claims are here, and applied at that time.
    pub(super) fn note_claims(&mut self, settled_us: u64) {
        self.misses_claims = false;
        self.settled_us = settled_us;
    }

    /// Ends what is left of a suspension once both proofs are there; to be called once a tick.
    pub(super) fn tick(&mut self, now_us: u64) {
        let misses_commands = !self.barriers.has_returned(self.barrier);
        self.was_suspended &= self.misses_claims || misses_commands || now_us < self.settled_us;
    }

    /// Whether commands are held back.
    pub(super) fn holds_back(&self) -> bool {
        self.was_suspended
    }
}

/// The barriers of one worker in the stream of commands, by number: once one is back, every command that was sent before
/// it is here.
#[derive(Debug, Default)]
pub(super) struct Barriers {
    sent: u64,
    returned: u64,
}

impl Barriers {
    /// Takes the next number, for [`Downlink::send_barrier`](crate::protocol::downlink::Downlink::send_barrier).
    pub(super) fn send(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// Notes that the barrier of that number, and so those of lower ones, is back.
    pub(super) fn note_returned(&mut self, number: u64) {
        self.returned = self.returned.max(number);
    }

    /// Whether the barrier of that number is back.
    pub(super) fn has_returned(&self, number: u64) -> bool {
        self.returned >= number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_held_back_until_both_proofs_and_a_tick_are_there() {
        let mut suspension = Suspension::default();
        suspension.barriers.send();
        assert_eq!(suspension.look(10_000_000), None, "the first look is no gap");
        assert_eq!(suspension.look(12_000_000), None);
        assert_eq!(suspension.look(14_000_001), Some(2));
        suspension.tick(14_000_001);
        assert!(suspension.holds_back());
        suspension.note_claims(0);
        suspension.tick(14_000_002);
        assert!(suspension.holds_back());
        suspension.barriers.note_returned(1);
        suspension.tick(14_000_003);
        assert!(suspension.holds_back(), "what was here before the suspension");
        suspension.barriers.note_returned(2);
        assert!(suspension.holds_back());
        suspension.tick(14_000_004);
        assert!(!suspension.holds_back());
    }

    #[test]
    fn commands_are_held_back_until_what_was_claimed_meanwhile_is_settled() {
        let mut suspension = Suspension::default();
        suspension.look(0);
        assert_eq!(suspension.look(10_000_000), Some(1));
        suspension.note_claims(10_500_000);
        suspension.barriers.note_returned(1);
        suspension.tick(10_499_999);
        assert!(suspension.holds_back());
        suspension.tick(10_500_000);
        assert!(!suspension.holds_back());
        suspension.note_claims(20_000_000);
        suspension.tick(10_500_001);
        assert!(!suspension.holds_back(), "without a suspension nothing is held back");
    }

    #[test]
    fn a_barrier_is_back_once_it_or_a_later_one_is() {
        let mut barriers = Barriers::default();
        assert_eq!([barriers.send(), barriers.send(), barriers.send()], [1, 2, 3]);
        barriers.note_returned(2);
        barriers.note_returned(1);
        assert_eq!([1, 2, 3].map(|number| barriers.has_returned(number)), [true, true, false]);
    }
}
