//! Which records wait for their acknowledgement, by the time of their sending.

use std::time::{Duration, Instant};

/// With records outstanding and nothing acknowledged for this long the queue counts as away.
pub(super) const STALL: Duration = Duration::from_secs(5);

/// Records sent within this time are counted together.
const SECOND: Duration = Duration::from_secs(1);

/// Seconds that are told apart: far more than a connection's deadline.
const SECONDS: usize = 32;

/// Counts records by the second of their sending.
///
/// A stream acknowledges in the order in which it was sent to, so a record that is still outstanding when one of two
/// seconds later is acknowledged was lost, as happens when a stream changes its leader. A slow stream, in contrast, is late
/// with all of them.
#[derive(Debug)]
pub(super) struct Outstanding {
    counts: [u32; SECONDS],
    /// First second since the queue was opened; earlier ones do not count.
    first: u64,
    current: u64,
    started: Instant,
    /// Latest second of which something was acknowledged.
    acknowledged: u64,
    progress: Instant,
}

/// Why records are taken for lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// Nothing is acknowledged any more.
    Stalled,
    /// Later records were acknowledged, earlier ones were not.
    Skipped,
}

impl Outstanding {
    pub(super) fn new(now: Instant) -> Self {
        Self { counts: [0; SECONDS], first: 0, current: 0, started: now, acknowledged: 0, progress: now }
    }

    /// Forgets everything: what was sent so far does not count any more.
    pub(super) fn restart(&mut self, now: Instant) {
        let next = self.current + 1;
        *self = Self { first: next, current: next, acknowledged: next, ..Self::new(now) };
    }

    /// Counts one that is being sent; what is returned, below [`SECONDS`], must come back with its acknowledgement.
    pub(super) fn send(&mut self) -> u8 {
        self.counts[index(self.current)] += 1;
        // Below 32.
        index(self.current) as u8
    }

    /// Counts one acknowledgement, positive or negative; false when its record was sent before the last restart.
    pub(super) fn acknowledge(&mut self, second: u8) -> bool {
        let behind = index(self.current).wrapping_sub(usize::from(second)) % SECONDS;
        let Some(second) = self.current.checked_sub(behind as u64).filter(|second| *second >= self.first) else {
            return false;
        };
        let count = &mut self.counts[index(second)];
        *count = count.saturating_sub(1);
        self.acknowledged = self.acknowledged.max(second);
        true
    }

    /// Ends a batch of acknowledgements.
    pub(super) fn note_progress(&mut self, now: Instant) {
        self.progress = now;
    }

    /// Looks whether something is lost; at least twice a second.
    pub(super) fn look(&mut self, now: Instant) -> Option<Loss> {
        if self.counts.iter().all(|count| *count == 0) {
            self.progress = now;
        }
        if now.saturating_duration_since(self.progress) >= STALL {
            return Some(Loss::Stalled);
        }
        let horizon = self.acknowledged.saturating_sub(1);
        let oldest = self.first.max((self.current + 1).saturating_sub(SECONDS as u64));
        if (oldest..horizon).any(|second| self.counts[index(second)] > 0) {
            return Some(Loss::Skipped);
        }
        if now.saturating_duration_since(self.started) >= SECOND {
            self.current += 1;
            self.started = now;
            self.counts[index(self.current)] = 0;
        }
        None
    }
}

fn index(second: u64) -> usize {
    // Below 32 on every machine.
    (second % SECONDS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every half second until something is lost or the time is over.
    fn look_for(outstanding: &mut Outstanding, start: Instant, halves: std::ops::Range<u64>) -> Option<(u64, Loss)> {
        halves.into_iter().find_map(|half| {
            let loss = outstanding.look(start + Duration::from_millis(500 * half))?;
            Some((half, loss))
        })
    }

    #[test]
    fn nothing_is_lost_while_nothing_waits() {
        let start = Instant::now();
        let mut outstanding = Outstanding::new(start);
        assert_eq!(look_for(&mut outstanding, start, 0..1000), None);
        let second = outstanding.send();
        assert!(outstanding.acknowledge(second));
        assert_eq!(look_for(&mut outstanding, start, 1000..2000), None);
    }

    #[test]
    fn a_stream_that_falls_silent_is_stalled_after_five_seconds() {
        let start = Instant::now();
        let mut outstanding = Outstanding::new(start);
        outstanding.send();
        assert_eq!(look_for(&mut outstanding, start, 0..100), Some((10, Loss::Stalled)));
        outstanding.restart(start);
        assert_eq!(look_for(&mut outstanding, start, 0..100), None);
    }

    #[test]
    fn a_record_is_lost_when_one_of_two_seconds_later_is_acknowledged() {
        let start = Instant::now();
        let mut outstanding = Outstanding::new(start);
        outstanding.send();
        for half in 1..100 {
            let now = start + Duration::from_millis(500 * half);
            let second = outstanding.send();
            assert!(outstanding.acknowledge(second));
            outstanding.note_progress(now);
            if let Some(loss) = outstanding.look(now) {
                assert_eq!((half, loss), (5, Loss::Skipped));
                return;
            }
        }
        panic!("the loss was not seen");
    }

    #[test]
    fn a_stream_that_is_late_with_everything_loses_nothing() {
        let start = Instant::now();
        let mut outstanding = Outstanding::new(start);
        let mut under_way = std::collections::VecDeque::new();
        for half in 1..200 {
            let now = start + Duration::from_millis(500 * half);
            under_way.push_back(outstanding.send());
            if under_way.len() > 16 {
                assert!(under_way.pop_front().is_some_and(|second| outstanding.acknowledge(second)));
                outstanding.note_progress(now);
            } else {
                outstanding.note_progress(now);
            }
            assert_eq!(outstanding.look(now), None, "{half}");
        }
    }

    #[test]
    fn acknowledgements_of_before_a_restart_do_not_count() {
        let start = Instant::now();
        let mut outstanding = Outstanding::new(start);
        let early = outstanding.send();
        outstanding.restart(start);
        assert!(!outstanding.acknowledge(early));
        let late = outstanding.send();
        assert!(outstanding.acknowledge(late));
    }
}
