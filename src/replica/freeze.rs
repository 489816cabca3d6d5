//! Notices that the process stood still, and holds commands back until what was missed is known.
//!
//! A replica that was frozen (SIGSTOP, a suspended machine) may have lost its devices to other replicas, and the
//! commands that it finds waiting may be older than their callers' patience. So after a gap between two looks at the
//! clock it wants two proofs, that every claim and that every waiting command has arrived, and a tick more; and the time
//! that other replicas have to say whether what they claimed lives.

/// A gap between two looks at the clock above this counts as a freeze, us.
const GAP_US: u64 = 2_000_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Freeze {
    looked_us: Option<u64>,
    claims_missing: bool,
    settled_us: u64,
    commands_missing: bool,
    /// Number of the fence behind which all commands are here.
    fence: u64,
    was_frozen: bool,
}

impl Freeze {
    /// Looks at the clock; true when a freeze has just ended, and both proofs must be asked for: that of the commands is the
    /// fence of that number.
    pub fn look(&mut self, now_us: u64, fence: u64) -> bool {
        let gap_us = self.looked_us.replace(now_us).map_or(0, |looked_us| now_us.saturating_sub(looked_us));
        let ended = gap_us > GAP_US;
        if ended {
            (self.claims_missing, self.commands_missing, self.was_frozen) = (true, true, true);
            self.fence = fence;
        }
        ended
    }

    /// All claims are here, and applied at that time.
    pub fn claims_are_here(&mut self, settled_us: u64) {
        self.claims_missing = false;
        self.settled_us = settled_us;
    }

    /// All commands up to the fence of that number are here; one of an earlier freeze says nothing of a later one.
    pub fn commands_are_here(&mut self, fence: u64) {
        self.commands_missing &= fence < self.fence;
    }

    /// Ends what is left of a freeze once both proofs are there; to be called once a tick.
    pub fn tick(&mut self, now_us: u64) {
        self.was_frozen &= self.claims_missing || self.commands_missing || now_us < self.settled_us;
    }

    /// Whether commands are held back.
    pub fn holds_back(&self) -> bool {
        self.was_frozen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_held_back_until_both_proofs_and_a_tick_are_there() {
        let mut freeze = Freeze::default();
        assert!(!freeze.look(10_000_000, 1), "the first look is no gap");
        assert!(!freeze.look(12_000_000, 1));
        assert!(freeze.look(14_000_001, 2));
        freeze.tick(14_000_001);
        assert!(freeze.holds_back());
        freeze.claims_are_here(0);
        freeze.tick(14_000_002);
        assert!(freeze.holds_back());
        freeze.commands_are_here(1);
        freeze.tick(14_000_003);
        assert!(freeze.holds_back(), "what was here before the freeze");
        freeze.commands_are_here(2);
        assert!(freeze.holds_back());
        freeze.tick(14_000_004);
        assert!(!freeze.holds_back());
    }

    #[test]
    fn commands_are_held_back_until_what_was_claimed_meanwhile_is_settled() {
        let mut freeze = Freeze::default();
        freeze.look(0, 0);
        assert!(freeze.look(10_000_000, 1));
        freeze.claims_are_here(10_500_000);
        freeze.commands_are_here(1);
        freeze.tick(10_499_999);
        assert!(freeze.holds_back());
        freeze.tick(10_500_000);
        assert!(!freeze.holds_back());
        freeze.claims_are_here(20_000_000);
        freeze.tick(10_500_001);
        assert!(!freeze.holds_back(), "without a freeze nothing is held back");
    }
}
