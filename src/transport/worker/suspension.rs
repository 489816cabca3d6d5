//! Suspensions of the process, and the barriers by which a worker knows that it has seen all commands.
//!
//! A replica that was suspended (SIGSTOP, a paused machine) may have lost its devices to other replicas, and the commands
//! that it finds waiting may be older than their callers' timeouts. So after a gap between two looks at the clock no
//! command is delivered until two proofs are there, that every claim and that every waiting command has arrived; and one
//! tick more, and the time that other replicas have to say whether what they claimed lives.

/// A gap between two looks at the clock above this counts as a suspension, us.
const GAP_US: u64 = 2_000_000;

/// Guard and barriers of one worker.
#[derive(Debug, Default)]
pub(super) struct Suspension {
    pub(super) guard: SuspendGuard,
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
        self.guard.note_barrier(number);
    }
}

/// Holds commands back after a suspension.
#[derive(Debug, Default)]
pub(super) struct SuspendGuard {
    looked_us: Option<u64>,
    misses_claims: bool,
    settled_us: u64,
    misses_commands: bool,
    /// Number of the barrier behind which all commands are here.
    barrier: u64,
    was_suspended: bool,
}

impl SuspendGuard {
    /// Looks at the clock; true when a suspension has just ended, and both proofs must be asked for: that of the commands
    /// is the barrier of that number.
    fn look(&mut self, now_us: u64, barrier: u64) -> bool {
        let gap_us = self.looked_us.replace(now_us).map_or(0, |looked_us| now_us.saturating_sub(looked_us));
        let ended = gap_us > GAP_US;
        if ended {
            (self.misses_claims, self.misses_commands, self.was_suspended) = (true, true, true);
            self.barrier = barrier;
        }
        ended
    }

    /// Notes that all claims are here, and applied at that time.
    pub(super) fn note_claims(&mut self, settled_us: u64) {
        self.misses_claims = false;
        self.settled_us = settled_us;
    }

    /// Notes that all commands up to the barrier of that number are here; one of an earlier suspension says nothing of a
    /// later one.
    pub(super) fn note_barrier(&mut self, barrier: u64) {
        self.misses_commands &= barrier < self.barrier;
    }

    /// Ends what is left of a suspension once both proofs are there; to be called once a tick.
    pub(super) fn tick(&mut self, now_us: u64) {
        self.was_suspended &= self.misses_claims || self.misses_commands || now_us < self.settled_us;
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
    /// The number that the next barrier has.
    pub(super) fn next(&self) -> u64 {
        self.sent + 1
    }

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
        let mut guard = SuspendGuard::default();
        assert!(!guard.look(10_000_000, 1), "the first look is no gap");
        assert!(!guard.look(12_000_000, 1));
        assert!(guard.look(14_000_001, 2));
        guard.tick(14_000_001);
        assert!(guard.holds_back());
        guard.note_claims(0);
        guard.tick(14_000_002);
        assert!(guard.holds_back());
        guard.note_barrier(1);
        guard.tick(14_000_003);
        assert!(guard.holds_back(), "what was here before the suspension");
        guard.note_barrier(2);
        assert!(guard.holds_back());
        guard.tick(14_000_004);
        assert!(!guard.holds_back());
    }

    #[test]
    fn commands_are_held_back_until_what_was_claimed_meanwhile_is_settled() {
        let mut guard = SuspendGuard::default();
        guard.look(0, 0);
        assert!(guard.look(10_000_000, 1));
        guard.note_claims(10_500_000);
        guard.note_barrier(1);
        guard.tick(10_499_999);
        assert!(guard.holds_back());
        guard.tick(10_500_000);
        assert!(!guard.holds_back());
        guard.note_claims(20_000_000);
        guard.tick(10_500_001);
        assert!(!guard.holds_back(), "without a suspension nothing is held back");
    }

    #[test]
    fn a_barrier_is_back_once_it_or_a_later_one_is() {
        let mut barriers = Barriers::default();
        assert_eq!((barriers.next(), barriers.send(), barriers.send(), barriers.send()), (1, 1, 2, 3));
        barriers.note_returned(2);
        barriers.note_returned(1);
        assert_eq!([1, 2, 3].map(|number| barriers.has_returned(number)), [true, true, false]);
    }
}
