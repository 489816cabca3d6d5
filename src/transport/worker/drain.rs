//! The end of a worker.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, interval, timeout};

use super::{Drained, LOOK, Worker};
use crate::replica::Mail;

/// How long the last commands and outcomes may take at the end, inside the time of the drain: of a drain that takes
/// all of its time it is the last part, a quarter at most.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Batches of a drain in one second at most.
const DRAIN_BATCHES_PER_SECOND: u64 = 20;

impl Worker {
    /// Drains while letters are still read: takeovers by other replicas and kicks go on.
    pub(super) async fn drain_reading(
        &self,
        draining: impl Future<Output = Drained>,
        letters: &mut mpsc::UnboundedReceiver<Mail>,
    ) -> Drained {
        let mut draining = std::pin::pin!(draining);
        loop {
            tokio::select! {
                drained = &mut draining => return drained,
                Some(letter) = letters.recv() => {
                    self.read_letter(letter);
                }
            }
        }
    }

    pub(super) async fn drain(self: Rc<Self>, per_second: u64) -> Drained {
        self.drain_ports();
        let (batch, pause) = drain_pace(per_second);
        let mut pace = interval(pause);
        let mut connections = self.connections();
        connections.retain(|connection| connection.state.borrow().session.ending().is_none());
        for batch in connections.chunks(batch) {
            pace.tick().await;
            for connection in batch {
                self.act(connection, |state, ctx| state.session.drain(ctx));
            }
        }
        let emptied = async {
            let mut look = interval(LOOK);
            while self.slots.borrow().iter().next().is_some() || self.unanswered() > 0 {
                look.tick().await;
            }
            self.say_farewell().await;
        };
        let (begin, drain_timeout) = (Instant::now(), self.settings.drain_timeout);
        let _late = timeout(drain_timeout - SETTLE_TIMEOUT.min(drain_timeout / 4), emptied).await;
        let left = drain_timeout.saturating_sub(begin.elapsed());
        let _late = timeout(left.min(SETTLE_TIMEOUT), self.settle_commands()).await;
        let left = self.connections();
        let unacknowledged: usize = left.iter().map(|connection| connection.state.borrow().session.in_flight()).sum();
        self.close_ports();
        Drained { unacknowledged: unacknowledged + self.unanswered() }
    }
}

/// Sessions of one batch of a drain, and the pause from one batch to the next.
fn drain_pace(per_second: u64) -> (usize, Duration) {
    let per_second = per_second.max(1);
    let batch = per_second.div_ceil(DRAIN_BATCHES_PER_SECOND);
    (usize::try_from(batch).unwrap_or(usize::MAX), Duration::from_nanos(1_000_000_000 * batch / per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_keeps_the_rate_that_was_asked_for_and_makes_at_most_20_batches_a_second() {
        for per_second in [1, 2, 19, 20, 21, 30, 39, 40, 41, 333, 1_000, 1_019, 10_000_000] {
            let (batch, pause) = drain_pace(per_second);
            let rate = batch as f64 / pause.as_secs_f64();
            assert!((rate / per_second as f64 - 1.0).abs() < 0.001, "{rate} a second instead of {per_second}");
            assert!(pause >= Duration::from_millis(47), "{per_second}: a batch each {pause:?}");
        }
        assert_eq!(drain_pace(0), drain_pace(1));
    }
}
