//! The bound on lines of one kind.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Level, Metadata};

use crate::protocol::throttle::Throttle;

/// One line more of a kind may be written after this time: ten a second.
const PAUSE: Duration = Duration::from_millis(100);

/// Lines of a kind that may come at once after silence: two seconds' worth.
const BURST: u32 = 20;

/// Lets lines at error and warn through, ten a second of each kind, with a burst of 20. A kind is one place in the
/// sources, so what one device causes in a loop hides neither what happens elsewhere nor that it goes on.
#[derive(Debug, Default)]
pub struct Limiter {
    kinds: Mutex<HashMap<Identifier, Throttle>>,
    errors: AtomicU64,
    warnings: AtomicU64,
}

impl Limiter {
    /// Whether this line may be written: `Some` with the number of its kind that were left out since the last one.
    pub fn pass(&self, metadata: &Metadata<'_>, now: Instant) -> Option<u64> {
        // Lines that say themselves how many they stand for are written seldom enough.
        if *metadata.level() > Level::WARN || metadata.fields().field("suppressed").is_some() {
            return Some(0);
        }
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = kinds.entry(metadata.callsite()).or_insert_with(|| Throttle::with_burst(PAUSE, BURST));
        let passed = kind.pass(now);
        if passed.is_none() {
            self.counter(*metadata.level()).fetch_add(1, Ordering::Relaxed);
        }
        passed
    }

    /// Lines at a level, error or warn, that were left out since the start.
    pub fn suppressed(&self, level: Level) -> u64 {
        self.counter(level).load(Ordering::Relaxed)
    }

    fn counter(&self, level: Level) -> &AtomicU64 {
        if level == Level::ERROR { &self.errors } else { &self.warnings }
    }
}
