//! Pauses between attempts to reach a queue.

use std::time::Duration;

use crate::protocol::backoff::Backoff;

/// First pause at its longest.
const FIRST: Duration = Duration::from_millis(50);

/// No pause is longer, so a queue that is back is found within two seconds.
const CEILING: Duration = Duration::from_secs(2);

/// Pauses that double from 50 ms to 2 s.
pub(crate) fn backoff() -> Backoff {
    // Without randomness there is no jitter, which costs politeness and nothing else.
    Backoff::new(FIRST, CEILING, u128::from(getrandom::u64().unwrap_or(1)))
}

/// The pause before attempt number `attempt`, for clients that count by themselves; the first attempt is 1.
pub(crate) fn pause_before(attempt: usize) -> Duration {
    backoff().pause_before(attempt)
}
