//! The level of the log, and its change while the process runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Level;

use super::LogError;
use super::limiter::Limiter;

/// Puts a level in force.
type Apply = Box<dyn Fn(&str) -> Result<(), LogError> + Send + Sync>;

/// The log as operators see it. Cheap to clone.
#[derive(Clone)]
pub struct LogControl {
    shared: Arc<Shared>,
}

struct Shared {
    level: Mutex<String>,
    is_level: fn(&str) -> bool,
    apply: Apply,
    limiter: Arc<Limiter>,
    unread: Arc<AtomicU64>,
}

impl LogControl {
    pub(crate) fn new(
        level: &str,
        is_level: fn(&str) -> bool,
        apply: impl Fn(&str) -> Result<(), LogError> + Send + Sync + 'static,
    ) -> Self {
        let level = Mutex::new(level.to_owned());
        let (limiter, unread) = (Arc::default(), Arc::default());
        Self { shared: Arc::new(Shared { level, is_level, apply: Box::new(apply), limiter, unread }) }
    }

    /// The level in force, as it was given.
    pub fn level(&self) -> String {
        self.shared.level.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another level in force, until the process ends.
    ///
    /// # Errors
    /// [`LogError::Level`]: it is none, and nothing changes.
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        if !(self.shared.is_level)(level) {
            return Err(LogError::Level);
        }
        // Held meanwhile, so that the level that is told is the one in force.
        let mut current = self.shared.level.lock().unwrap_or_else(PoisonError::into_inner);
        (self.shared.apply)(level)?;
        level.clone_into(&mut current);
        Ok(())
    }

    /// Lines that were left out so far as nobody read those before them.
    pub fn unread(&self) -> u64 {
        self.shared.unread.load(Ordering::Relaxed)
    }

    pub(super) fn unread_counter(&self) -> Arc<AtomicU64> {
        self.shared.unread.clone()
    }

    /// Lines at a level, error or warn, that were left out so far, as too many of their kind came at once.
    pub fn suppressed(&self, level: Level) -> u64 {
        self.shared.limiter.suppressed(level)
    }

    pub(super) fn limiter(&self) -> Arc<Limiter> {
        self.shared.limiter.clone()
    }
}
