//! The clock by which replicas compare when sessions began.

use crate::protocol::limit::Now;

/// A time that is further ahead of the own system clock is not believed, us. Devices say their time at CONNECT and may be
/// five minutes off, so two replicas that let the same device in are less than ten apart.
const AHEAD_MAX_US: u64 = 600_000_000;

/// A replica whose clock is so far behind is told, us.
const BEHIND_US: u64 = 100_000;

/// A clock that never goes back, never stands behind the system clock, and never behind what another replica has said: so
/// all come to the fastest clock among them, and what begins after something was heard is later than that. us since 1970.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClaimClock {
    time: u64,
    read_us: u64,
}

impl ClaimClock {
    /// The time.
    pub fn now(&mut self, now: Now) -> u64 {
        let passed_us = now.us.saturating_sub(self.read_us);
        self.read_us = self.read_us.max(now.us);
        self.time = self.time.saturating_add(passed_us).max(system_us(now));
        self.time
    }

    /// The time at which a session begins: later than all that was given out or heard before.
    pub fn begin(&mut self, now: Now) -> u64 {
        self.time = self.now(now).saturating_add(1);
        self.time
    }

    /// Takes notice of a time that another replica has said.
    pub fn hear(&mut self, said: u64, now: Now) {
        let time = self.now(now);
        if said <= system_us(now).saturating_add(AHEAD_MAX_US) {
            self.time = time.max(said);
        }
    }

    /// Whether that replica's clock is behind this one, so that it should be told.
    pub fn is_ahead_of(&mut self, said: u64, now: Now) -> bool {
        self.now(now) > said.saturating_add(BEHIND_US)
    }
}

fn system_us(now: Now) -> u64 {
    now.unix_ms.saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(unix_ms: u64, us: u64) -> Now {
        Now { unix_ms, us }
    }

    #[test]
    fn it_goes_on_while_the_system_clock_stands_still_or_goes_back() {
        let mut clock = ClaimClock::default();
        let mut last = clock.begin(at(1_000_000, 0));
        assert_eq!(last, 1_000_000_001);
        for (unix_ms, us) in [(1_000_000, 0), (1_000_000, 5), (500_000, 1_005), (0, 2_005), (1_000_003, 3_005)] {
            let next = clock.begin(at(unix_ms, us));
            assert!(next > last && next >= 1_000_000_000 + us, "{next} after {last}");
            last = next;
        }
    }

    #[test]
    fn what_begins_after_something_was_heard_is_later_whatever_the_system_clocks_say() {
        let (mut fast, mut slow) = (ClaimClock::default(), ClaimClock::default());
        let first = fast.begin(at(1_000_000, 0));
        slow.hear(first, at(940_000, 7));
        let second = slow.begin(at(940_000, 7));
        assert!(second > first);
        // A minute later it still goes as the fast one does.
        assert!(slow.now(at(1_000_000, 60_000_007)) >= fast.now(at(1_060_000, 60_000_000)));
        fast.hear(second, at(1_000_000, 10));
        assert!(fast.begin(at(1_000_000, 10)) > second);
    }

    #[test]
    fn a_time_far_ahead_is_not_believed() {
        let mut clock = ClaimClock::default();
        clock.hear(u64::MAX, at(1_000_000, 0));
        assert_eq!(clock.now(at(1_000_000, 0)), 1_000_000_000);
        clock.hear(1_600_000_000, at(1_000_000, 0));
        assert_eq!(clock.now(at(1_000_000, 0)), 1_600_000_000);
    }

    #[test]
    fn a_replica_that_is_behind_is_told_and_one_that_was_told_is_behind_no_more() {
        let (mut fast, mut slow) = (ClaimClock::default(), ClaimClock::default());
        let said = slow.now(at(940_000, 0));
        assert!(fast.is_ahead_of(said, at(1_000_000, 0)));
        slow.hear(fast.now(at(1_000_000, 0)), at(940_000, 0));
        assert!(!fast.is_ahead_of(slow.now(at(940_000, 1_000)), at(1_000_000, 1_000)));
    }
}
