//! The way of outcomes from workers to Kafka.

use tokio::sync::{mpsc, oneshot, watch};

use crate::protocol::downlink::{Outcome, Ticket};
use crate::protocol::uplink::Availability;

/// Marks the tickets of commands from Kafka; every other queue leaves it clear.
const MARK: u64 = 1 << 63;

/// A message to the thread of the commands.
#[derive(Debug)]
pub(super) enum ServiceMessage {
    /// The outcome of the command with this number.
    Outcome(u64, Outcome),
    /// Take no more commands.
    Stop,
    /// Bring what is under way to its end, then tell.
    Finish(oneshot::Sender<()>),
}

/// The way of outcomes to Kafka, from any thread; cheap to clone.
///
/// Messages are bounded by the commands in flight, of which each has one outcome.
#[derive(Debug, Clone)]
pub struct KafkaAnswers {
    messages: mpsc::UnboundedSender<ServiceMessage>,
    source: watch::Receiver<Availability>,
}

impl KafkaAnswers {
    pub(super) fn new(messages: mpsc::UnboundedSender<ServiceMessage>, source: watch::Receiver<Availability>) -> Self {
        Self { messages, source }
    }

    /// Whether commands can be read.
    pub fn availability(&self) -> Availability {
        *self.source.borrow()
    }

    pub(super) fn ticket(number: u64) -> Ticket {
        Ticket(MARK | number)
    }

    /// Whether the ticket is that of a command from Kafka.
    pub fn owns(ticket: Ticket) -> bool {
        ticket.0 & MARK != 0
    }

    /// Gives an outcome to the command of that ticket; a second one for the same ticket does not count.
    pub fn answer(&self, ticket: Ticket, outcome: Outcome) {
        self.send(ServiceMessage::Outcome(ticket.0 & !MARK, outcome));
    }

    pub(super) fn send(&self, message: ServiceMessage) {
        // The thread has ended only where the process ends too.
        let _ended = self.messages.send(message);
    }
}
