//! The records by which a replica says that it lives.

/// The heartbeat of one worker. One worker of a replica has a period.
#[derive(Debug)]
pub(super) struct Heartbeat {
    /// `None`: another worker writes them.
    period_us: Option<u64>,
    next_us: u64,
}

impl Heartbeat {
    /// A heartbeat whose first record is due at once.
    pub(super) fn new(period_us: Option<u64>) -> Self {
        Self { period_us, next_us: 0 }
    }

    /// Whether a record is due. One that the queue does not take stays due.
    pub(super) fn is_due(&self, now_us: u64) -> bool {
        self.period_us.is_some() && now_us >= self.next_us
    }

    /// Notes that the queue took a record.
    pub(super) fn note_written(&mut self, now_us: u64) {
        self.next_us = now_us.saturating_add(self.period_us.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_due_each_period_after_the_last_that_was_written() {
        let mut heartbeat = Heartbeat::new(Some(1_000));
        assert!(heartbeat.is_due(0));
        heartbeat.note_written(10);
        assert!(!heartbeat.is_due(1_009));
        assert!(heartbeat.is_due(1_010) && heartbeat.is_due(5_000), "one that was not taken stays due");
        heartbeat.note_written(5_000);
        assert!(!heartbeat.is_due(5_999) && heartbeat.is_due(6_000));
    }

    #[test]
    fn a_worker_without_a_period_writes_none_of_its_own() {
        let mut heartbeat = Heartbeat::new(None);
        assert!(!heartbeat.is_due(u64::MAX));
        heartbeat.note_written(7);
        assert!(!heartbeat.is_due(u64::MAX), "the queue asked for that one");
    }
}
