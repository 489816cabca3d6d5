//! The simulated clock: what happens next, and when.

use std::collections::BTreeMap;

/// One ms, in us.
pub(crate) const MS: u64 = 1_000;

/// One second, in us.
pub(crate) const S: u64 = 1_000 * MS;

/// Events by their time; those of one time happen in the order in which they were put in.
#[derive(Debug)]
pub(crate) struct Schedule<E> {
    now_us: u64,
    number: u64,
    events: BTreeMap<(u64, u64), E>,
}

impl<E> Schedule<E> {
    /// An empty schedule at the time 0.
    pub(crate) fn new() -> Self {
        Self { now_us: 0, number: 0, events: BTreeMap::new() }
    }

    /// The time, us since the begin of the run.
    pub(crate) fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Lets `event` happen at that time, at once if it has passed.
    pub(crate) fn at(&mut self, at_us: u64, event: E) {
        self.number += 1;
        self.events.insert((at_us.max(self.now_us), self.number), event);
    }

    /// Lets `event` happen after that time.
    pub(crate) fn after(&mut self, after_us: u64, event: E) {
        self.at(self.now_us + after_us, event);
    }

    /// The next event up to `end_us`, whose time it is then; without one the time is `end_us`.
    pub(crate) fn next(&mut self, end_us: u64) -> Option<E> {
        let is_due = self.events.first_key_value().is_some_and(|((at_us, _), _)| *at_us <= end_us);
        if !is_due {
            self.now_us = self.now_us.max(end_us);
            return None;
        }
        let ((at_us, _), event) = self.events.pop_first()?;
        self.now_us = at_us;
        Some(event)
    }
}
