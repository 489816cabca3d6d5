//! Whether a producer's records are stored, and whether its link is fast.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::client::ProducerStatus;

/// Time without a stored record, while some are outstanding, after which a heartbeat has to show whether any is stored.
const DOUBT: Duration = Duration::from_secs(2);

/// Time without a stored record, while some are outstanding, after which the queue counts as away.
const STALL: Duration = Duration::from_secs(5);

/// The time over which the speed of a link is measured, at least.
const SPEED_OVER: Duration = Duration::from_millis(500);

/// Measures whether a link carries so many bytes a second.
#[derive(Debug)]
pub(super) struct Speed {
    since: Instant,
    bytes_then: u64,
}

impl Speed {
    /// A measurement that begins `now`, when `bytes` were stored.
    pub(super) fn new(now: Instant, bytes: u64) -> Self {
        Self { since: now, bytes_then: bytes }
    }

    /// Takes the bytes stored so far; whether as many as `wanted` a second came through since the last time that there was
    /// an answer. `None` when that is too short ago.
    pub(super) fn measure(&mut self, bytes: u64, wanted: u64, now: Instant) -> Option<bool> {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < SPEED_OVER {
            return None;
        }
        let carried = u128::from(bytes.saturating_sub(self.bytes_then)) * 1000;
        *self = Self::new(now, bytes);
        Some(carried >= u128::from(wanted) * elapsed.as_millis())
    }
}

/// The state of a producer by its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Records are stored, or there are none.
    Well,
    /// Time for a record that tells whether any is stored; once every [`DOUBT`].
    Doubtful,
    /// Nothing is stored for [`STALL`]; returned once each time.
    Stalled,
    /// Nothing is stored for so long that every record has failed by its timeout.
    Lost,
}

/// The numbers seen so far.
pub(super) struct Progress {
    stored: u64,
    failed: u64,
    since: Option<Instant>,
    asked_at: Option<Instant>,
    is_stalled: bool,
    lost_after: Duration,
}

impl Progress {
    /// The progress of a new producer, which keeps a record for `message_timeout`.
    pub(super) fn new(message_timeout: Duration) -> Self {
        let lost_after = STALL + message_timeout;
        Self { stored: 0, failed: 0, since: None, asked_at: None, is_stalled: false, lost_after }
    }

    /// Compares the numbers with those of the last call. A producer without outstanding records that fails none is well.
    pub(super) fn update(&mut self, status: &ProducerStatus, now: Instant) -> State {
        let stored = status.stored.load(Ordering::Relaxed);
        let failed = status.failed.load(Ordering::Relaxed);
        let is_idle = status.outstanding.load(Ordering::Relaxed) <= 0 && failed == self.failed;
        if stored != self.stored || is_idle && self.since.is_none() {
            self.stored = stored;
            self.failed = failed;
            (self.since, self.asked_at, self.is_stalled) = (None, None, false);
            return State::Well;
        }
        let since = *self.since.get_or_insert(now);
        let silence = now.saturating_duration_since(since);
        if silence >= self.lost_after {
            return State::Lost;
        }
        if silence >= STALL && !std::mem::replace(&mut self.is_stalled, true) {
            return State::Stalled;
        }
        let last = self.asked_at.unwrap_or(since);
        if now.saturating_duration_since(last) < DOUBT {
            return State::Well;
        }
        self.asked_at = Some(now);
        State::Doubtful
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_of_a_link_is_what_came_through_since_the_last_answer() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut speed = Speed::new(start, 1_000);
        assert_eq!(speed.measure(999_999, 1_000, at(499)), None);
        assert_eq!(speed.measure(1_499, 1_000, at(500)), Some(false), "499 bytes in half a second");
        assert_eq!(speed.measure(2_499, 1_000, at(1_500)), Some(true));
        assert_eq!(speed.measure(2_499, 1_000, at(9_000)), Some(false));
    }

    #[test]
    fn a_producer_stalls_when_records_wait_or_come_back_and_none_is_stored() {
        let (status, start) = (ProducerStatus::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let message_timeout = Duration::from_secs(9);
        let mut progress = Progress::new(message_timeout);
        assert_eq!(progress.update(&status, at(0)), State::Well);
        assert_eq!(progress.update(&status, at(100)), State::Well, "an idle producer does not stall");
        status.outstanding.store(1, Ordering::Relaxed);
        assert_eq!(progress.update(&status, at(101)), State::Well);
        assert_eq!(progress.update(&status, at(102)), State::Well);
        assert_eq!(progress.update(&status, at(103)), State::Doubtful);
        assert_eq!(progress.update(&status, at(104)), State::Well, "it was asked for");
        assert_eq!(progress.update(&status, at(105)), State::Doubtful);
        status.stored.store(1, Ordering::Relaxed);
        assert_eq!(progress.update(&status, at(107)), State::Well, "one was stored, and the other still waits");
        assert_eq!(progress.update(&status, at(108)), State::Well);
        assert_eq!(progress.update(&status, at(113)), State::Stalled);
        assert_eq!(progress.update(&status, at(114)), State::Doubtful, "a stall is told once");
        assert_eq!(progress.update(&status, at(122)), State::Lost, "all it had has come back");
        let mut progress = Progress::new(message_timeout);
        status.outstanding.store(0, Ordering::Relaxed);
        status.stored.store(0, Ordering::Relaxed);
        status.failed.store(3, Ordering::Relaxed);
        assert_eq!(progress.update(&status, at(200)), State::Well);
        assert_eq!(progress.update(&status, at(205)), State::Stalled, "all came back");
    }
}
