//! The records by which a replica says that it lives.

/// The heartbeat of one worker. One worker of a replica writes records in time, each writes those that its queue asks for.
#[derive(Debug)]
pub(super) struct Heartbeat {
    settings: HeartbeatSettings,
    next_us: u64,
}

/// Parameters of a worker's heartbeat.
#[derive(Debug, Clone, Copy)]
pub struct HeartbeatSettings {
    /// Period of the replica's records, us.
    pub period_us: u64,
    /// Whether this is the worker that writes one each period.
    pub is_periodic: bool,
}

impl Heartbeat {
    /// A heartbeat whose first record is due at once.
    pub(super) fn new(settings: HeartbeatSettings) -> Self {
        Self { settings, next_us: 0 }
    }

    /// The time within which the replica writes its next record, ms; for the record.
    pub(super) fn interval_ms(&self) -> u64 {
        self.settings.period_us / 1000
    }

    /// Whether a record is due. One that the queue does not take stays due.
    pub(super) fn is_due(&self, now_us: u64) -> bool {
        self.settings.is_periodic && now_us >= self.next_us
    }

    /// Notes that the queue took a record.
    pub(super) fn note_written(&mut self, now_us: u64) {
        self.next_us = now_us.saturating_add(self.settings.period_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_due_each_period_after_the_last_that_was_written() {
        let mut heartbeat = Heartbeat::new(HeartbeatSettings { period_us: 1_000, is_periodic: true });
        assert!(heartbeat.is_due(0));
        heartbeat.note_written(10);
        assert!(!heartbeat.is_due(1_009));
        assert!(heartbeat.is_due(1_010) && heartbeat.is_due(5_000), "one that was not taken stays due");
        heartbeat.note_written(5_000);
        assert!(!heartbeat.is_due(5_999) && heartbeat.is_due(6_000));
    }

    #[test]
    fn another_worker_writes_none_of_its_own_and_knows_the_interval() {
        let mut heartbeat = Heartbeat::new(HeartbeatSettings { period_us: 30_000_000, is_periodic: false });
        assert_eq!(heartbeat.interval_ms(), 30_000);
        assert!(!heartbeat.is_due(u64::MAX));
        heartbeat.note_written(7);
        assert!(!heartbeat.is_due(u64::MAX), "the queue asked for that one");
    }
}
