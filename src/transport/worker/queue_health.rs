//! The state of the queue as its worker sees it.

use crate::protocol::uplink::{Availability, Report};

/// Without any receipt for this long, with records held, the queue counts as away, us.
const SILENCE_US: u64 = 5_000_000;

/// One worker's view of its queue: the state that the queue reports, and since when it owes an answer.
#[derive(Debug)]
pub(super) struct QueueHealth {
    reported: Availability,
    epoch: u64,
    /// When the queue last answered, or owed no answer.
    progress_us: u64,
}

impl QueueHealth {
    /// A queue that was not reached yet.
    pub(super) fn new() -> Self {
        Self { reported: Availability::Starting, epoch: 0, progress_us: 0 }
    }

    /// Takes a report of the queue, which came with receipts or without. True: a new epoch has begun, and every session
    /// sends what is not stored once more.
    pub(super) fn report(&mut self, report: Report, has_receipts: bool, now_us: u64) -> bool {
        self.reported = report.availability;
        let begins_epoch = report.epoch > self.epoch;
        self.epoch = self.epoch.max(report.epoch);
        // An answer about one record, be it a failure, is no silence of the queue.
        if has_receipts || begins_epoch {
            self.progress_us = now_us;
        }
        begins_epoch
    }

    /// Notes that no record waits for an answer.
    pub(super) fn note_idle(&mut self, now_us: u64) {
        self.progress_us = now_us;
    }

    /// The state that the queue reported.
    pub(super) fn reported(&self) -> Availability {
        self.reported
    }

    /// The state of the queue: away also when it is connected and acknowledges none of the records that are held.
    pub(super) fn availability(&self, held_records: usize, now_us: u64) -> Availability {
        let is_silent = now_us.saturating_sub(self.progress_us) > SILENCE_US;
        match self.reported {
            Availability::Ok if held_records > 0 && is_silent => Availability::Away,
            reported => reported,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(availability: Availability, epoch: u64) -> Report {
        Report { availability, epoch, wants_heartbeat: false }
    }

    #[test]
    fn a_queue_that_answers_nothing_for_five_seconds_counts_as_away_while_records_are_held() {
        let mut queue = QueueHealth::new();
        assert_eq!(queue.availability(0, 0), Availability::Starting);
        assert!(queue.report(report(Availability::Ok, 1), false, 1_000));
        assert_eq!(queue.availability(1, 1_000 + SILENCE_US), Availability::Ok);
        assert_eq!(queue.availability(1, 1_001 + SILENCE_US), Availability::Away);
        assert_eq!(queue.availability(0, 1_001 + SILENCE_US), Availability::Ok);
        assert_eq!(queue.reported(), Availability::Ok);
        queue.note_idle(9_000_000);
        assert_eq!(queue.availability(1, 9_000_000 + SILENCE_US), Availability::Ok);
        assert!(!queue.report(report(Availability::Ok, 1), true, 20_000_000), "a receipt, and no epoch");
        assert_eq!(queue.availability(1, 20_000_000 + SILENCE_US), Availability::Ok);
        assert!(!queue.report(report(Availability::Ok, 1), false, 30_000_000));
        assert_eq!(queue.availability(1, 30_000_000), Availability::Away, "a report alone is no answer");
    }

    #[test]
    fn each_epoch_begins_once() {
        let mut queue = QueueHealth::new();
        let epochs = [0, 1, 1, 3, 2, 3, 4];
        let begun = epochs.map(|epoch| queue.report(report(Availability::Away, epoch), false, 0));
        assert_eq!(begun, [false, true, false, true, false, false, true]);
    }
}
