//! Commands that the process itself gives to its workers, as for an operator, beside those of the queue.
//!
//! They go the way of all others: a [`Command`](crate::protocol::downlink::DownlinkEvent::Command) to the worker that holds the
//! device, and the outcome by its ticket. [`CallsDownlink`] takes the outcomes of [`Calls`] and leaves all others to the queue's
//! own downlink.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::Slots;
use crate::protocol::downlink::{Downlink, Outcome, Ticket};
use crate::protocol::id::{DeviceId, ProductId};
use crate::protocol::uplink::{Availability, SlotId};

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
    fn owns(ticket: Ticket) -> bool {
        ticket.0 >> 62 == 1
    }

    fn answer(&self, ticket: Ticket, outcome: Outcome) {
        if let Some(caller) = self.waiting().remove(ticket.0 & !MARK) {
            // Whoever asked may have gone.
            let _gone = caller.send(outcome);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Slots<oneshot::Sender<Outcome>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One worker's way to the queue of commands, and to the callers within the process.
pub struct CallsDownlink {
    calls: Calls,
    queue: Box<dyn Downlink>,
}

impl CallsDownlink {
    /// Joins the two.
    pub fn new(calls: Calls, queue: Box<dyn Downlink>) -> Self {
        Self { calls, queue }
    }
}

impl Downlink for CallsDownlink {
    fn attach(&mut self, session: SlotId, addresses: &[(ProductId, DeviceId)]) {
        self.queue.attach(session, addresses);
    }

    fn detach(&mut self, session: SlotId) {
        self.queue.detach(session);
    }

    fn held_bytes(&self, ticket: Ticket) -> usize {
        if Calls::owns(ticket) { 0 } else { self.queue.held_bytes(ticket) }
    }

    fn answer(&mut self, ticket: Ticket, outcome: Outcome) {
        if Calls::owns(ticket) {
            self.calls.answer(ticket, outcome);
        } else {
            self.queue.answer(ticket, outcome);
        }
    }

    fn send_barrier(&mut self, number: u64) -> bool {
        self.queue.send_barrier(number)
    }

    fn reassert(&mut self, session: SlotId) {
        self.queue.reassert(session);
    }

    fn is_settled(&self) -> bool {
        self.queue.is_settled()
    }

    fn availability(&self) -> Availability {
        self.queue.availability()
    }

    fn is_uplink(&self, ticket: Ticket) -> bool {
        !Calls::owns(ticket) && self.queue.is_uplink(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes the tickets that it answers.
    struct Noting(Arc<Mutex<Vec<u64>>>);

    impl Downlink for Noting {
        fn attach(&mut self, _session: SlotId, _addresses: &[(ProductId, DeviceId)]) {}

        fn detach(&mut self, _session: SlotId) {}

        fn answer(&mut self, ticket: Ticket, _outcome: Outcome) {
            self.0.lock().unwrap().push(ticket.0);
        }

        fn is_uplink(&self, _ticket: Ticket) -> bool {
            true
        }
    }

    fn outcome() -> Outcome {
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
    fn each_outcome_goes_to_whoever_gave_the_command_and_only_once() {
        let (calls, noted) = (Calls::default(), Arc::default());
        let mut downlink = CallsDownlink::new(calls.clone(), Box::new(Noting(Arc::clone(&noted))));
        let (ticket, mut waiting) = calls.begin().expect("there is room");
        // Those of a queue: from Kafka with its own mark, and the highest of the others.
        let others = [Ticket(0), Ticket(1 << 63 | ticket.0), Ticket((1 << 62) - 1)];
        for ticket in others {
            assert!(downlink.is_uplink(ticket));
            downlink.answer(ticket, outcome());
        }
        assert_eq!(*noted.lock().unwrap(), others.map(|ticket| ticket.0));
        assert!(waiting.try_recv().is_err());
        assert!(!downlink.is_uplink(ticket));
        downlink.answer(ticket, outcome());
        downlink.answer(ticket, outcome());
        assert_eq!(waiting.try_recv(), Ok(outcome()));
        assert_eq!(noted.lock().unwrap().len(), others.len());
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
