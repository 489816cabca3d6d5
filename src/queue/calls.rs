//! Commands that the process itself gives to its workers, as for an operator, beside those of the queue.
//!
//! They go the way of all others: a [`Command`](crate::protocol::downlink::DownlinkEvent::Command) to the worker that holds the
//! device, and the outcome by its ticket: [`WorkerDownlink`](super::WorkerDownlink) brings it back here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::Slots;
use crate::protocol::downlink::{Outcome, Ticket};

/// Marks the tickets of these commands; queues leave the bit clear.
const MARK: u64 = 1 << 62;

/// Commands that may wait for their outcome.
pub const CALLS_MAX: usize = 16;

/// Commands of the process that wait for their outcome. Its clones share them.
#[derive(Debug, Clone, Default)]
pub struct Calls {
    waiting: Arc<Mutex<Slots<oneshot::Sender<Outcome>>>>,
}

impl Calls {
    /// The ticket of one more command, and its outcome once it comes. `None`: [`CALLS_MAX`] wait. Whoever has dropped the
    /// receiver of an outcome waits no more.
    pub fn begin(&self) -> Option<(Ticket, oneshot::Receiver<Outcome>)> {
        let mut waiting = self.waiting();
        if waiting.len() >= CALLS_MAX {
            let gone: Vec<u64> =
                waiting.iter().filter(|(_, caller)| caller.is_closed()).map(|(number, _)| number).collect();
            for number in gone {
                waiting.remove(number);
            }
        }
        if waiting.len() >= CALLS_MAX {
            return None;
        }
        let (sender, outcome) = oneshot::channel();
        Some((Ticket(MARK | waiting.insert(sender)), outcome))
    }

    /// Whether the ticket is that of such a command.
    pub(super) fn owns(ticket: Ticket) -> bool {
        ticket.0 >> 62 == 1
    }

    pub(super) fn answer(&self, ticket: Ticket, outcome: Outcome) {
        if let Some(caller) = self.waiting().remove(ticket.0 & !MARK) {
            // Whoever asked may have gone.
            let _gone = caller.send(outcome);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Slots<oneshot::Sender<Outcome>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn outcome() -> Outcome {
        Outcome {
            device: "device1".to_owned(),
            correlation_id: "1".to_owned(),
            payload: bytes::Bytes::from_static(b"{}"),
            attributes: Vec::new(),
            trace: None,
            failure: None,
        }
    }

    #[test]
    fn no_more_wait_than_may_and_an_answered_one_makes_room() {
        let calls = Calls::default();
        let waiting: Vec<_> = (0..CALLS_MAX).map(|_| calls.begin().expect("there is room")).collect();
        assert!(calls.begin().is_none());
        calls.answer(waiting[3].0, outcome());
        let next = calls.begin();
        assert!(next.is_some() && calls.begin().is_none());
    }

    #[test]
    fn whoever_waits_no_more_makes_room_and_his_outcome_reaches_nobody_else() {
        let calls = Calls::default();
        let mut waiting: Vec<_> = (0..CALLS_MAX).map(|_| calls.begin().expect("there is room")).collect();
        let gone: Vec<_> = waiting.drain(..2).map(|(ticket, _)| ticket).collect();
        waiting.extend((0..2).map(|_| calls.begin().expect("two have gone")));
        assert!(calls.begin().is_none());
        for ticket in gone {
            calls.answer(ticket, outcome());
        }
        assert!(waiting.iter_mut().all(|(_, outcome)| outcome.try_recv().is_err()) && calls.begin().is_none());
        let (ticket, outcome_of) = waiting.last_mut().expect("all wait");
        calls.answer(*ticket, outcome());
        assert_eq!(outcome_of.try_recv(), Ok(outcome()));
    }
}
