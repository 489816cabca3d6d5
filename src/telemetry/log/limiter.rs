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

/// Lines that were left out since the start.
#[derive(Debug, Default)]
pub struct Suppressed {
    errors: AtomicU64,
    warnings: AtomicU64,
}

impl Suppressed {
    /// Those at level error.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Those at level warn.
    pub fn warnings(&self) -> u64 {
        self.warnings.load(Ordering::Relaxed)
    }
}

/// Lets lines at error and warn through, ten a second of each kind, with a burst of 20. A kind is one place in the
/// sources, so what one device causes in a loop hides neither what happens elsewhere nor that it goes on.
#[derive(Debug, Default)]
pub struct Limiter {
    kinds: Mutex<HashMap<Identifier, Throttle>>,
    suppressed: Suppressed,
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
            let counter =
                if *metadata.level() == Level::ERROR { &self.suppressed.errors } else { &self.suppressed.warnings };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        passed
    }

    /// Lines that were left out so far.
    pub fn suppressed(&self) -> &Suppressed {
        &self.suppressed
    }
}
