//! Waiting for a condition.

use std::thread;
use std::time::{Duration, Instant};

/// Pause between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(5);

/// How often a time is taken that a busy machine may have delayed.
const SAMPLES: usize = 5;

/// Asks `probe` until it gives a value; `what` names the condition for the reader of a failure.
///
/// This is not a sleep that stands for an event: the pause only keeps the test from taking the processor away from what
/// it waits for. A slow machine makes it look more often, never too early, and only the deadline can fail it.
///
/// # Panics
/// When the deadline passes without a value.
pub(crate) fn eventually<T>(what: &str, deadline: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    match within(deadline, &mut probe) {
        Some(value) => value,
        None => panic!("not within {deadline:?}: {what}"),
    }
}

/// Takes the time of something until it took less than `bound` once, five times at most; `what` names it.
///
/// A busy machine may delay any one sample, and a fault delays all of them. Only for a promise that names a time.
///
/// # Panics
/// When each sample took longer.
pub(crate) fn soon_once(what: &str, bound: Duration, mut sample: impl FnMut() -> Duration) {
    let mut taken = Vec::new();
    while taken.len() < SAMPLES {
        let time = sample();
        if time < bound {
            return;
        }
        taken.push(time);
    }
    panic!("never within {bound:?}: {what}: {taken:?}");
}

/// As [`eventually`], for callers that go on without the value.
pub(crate) fn within<T>(deadline: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::park_timeout(PAUSE);
    }
}
