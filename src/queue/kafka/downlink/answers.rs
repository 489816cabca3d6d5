//! One worker's side of the commands from Kafka.

use tokio::sync::{mpsc, oneshot, watch};

use crate::protocol::downlink::{Downlink, DownlinkEvent, Outcome, Ticket};
use crate::protocol::id::{DeviceId, ProductId};
use crate::protocol::uplink::{Availability, SlotId};
use crate::queue::ImmediateInterest;

/// Marks the tickets of commands from Kafka, in workers that have commands from NATS too; NATS leaves it clear.
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

/// One worker's way to the commands where nothing but Kafka brings them. Interest needs no declaration: the thread of the
/// commands finds the worker of a device itself.
#[derive(Debug)]
pub struct KafkaDownlink {
    answers: KafkaAnswers,
    interest: ImmediateInterest,
}

impl KafkaDownlink {
    /// Starts on the calling thread, inside a `LocalSet`; `events` are those of the worker.
    ///
    /// # Panics
    /// Outside a `LocalSet`.
    pub fn new(answers: KafkaAnswers, events: mpsc::Sender<DownlinkEvent>) -> Self {
        Self { answers, interest: ImmediateInterest::start(events) }
    }
}

impl Downlink for KafkaDownlink {
    fn attach(&mut self, session: SlotId, _addresses: &[(ProductId, DeviceId)]) {
        self.interest.attach(session);
    }

    fn detach(&mut self, _session: SlotId) {}

    fn availability(&self) -> Availability {
        self.answers.availability()
    }

    fn answer(&mut self, ticket: Ticket, outcome: Outcome) {
        self.answers.answer(ticket, outcome);
    }
}

/// One worker's way to the commands where replicas hand them over: another queue brings those of other replicas. Devices are found
/// by their interest there; each outcome goes back to the queue that its command came from.
#[derive(Debug)]
pub struct HandOverDownlink<D> {
    /// Takes the outcomes of commands that this replica has read.
    answers: KafkaAnswers,
    /// Declares the interests.
    other: D,
}

impl<D: Downlink> HandOverDownlink<D> {
    /// Joins the two queues. The tickets of `other` leave their highest bit clear.
    pub fn new(answers: KafkaAnswers, other: D) -> Self {
        Self { answers, other }
    }
}

impl<D: Downlink> Downlink for HandOverDownlink<D> {
    fn attach(&mut self, session: SlotId, addresses: &[(ProductId, DeviceId)]) {
        self.other.attach(session, addresses);
    }

    fn detach(&mut self, session: SlotId) {
        self.other.detach(session);
    }

    fn answer(&mut self, ticket: Ticket, outcome: Outcome) {
        if KafkaAnswers::owns(ticket) {
            self.answers.answer(ticket, outcome);
        } else {
            self.other.answer(ticket, outcome);
        }
    }

    fn held_bytes(&self, ticket: Ticket) -> usize {
        // What is kept of a record is counted where it was read.
        if KafkaAnswers::owns(ticket) { 0 } else { self.other.held_bytes(ticket) }
    }

    fn availability(&self) -> Availability {
        // Away counts most, then starting.
        match (self.other.availability(), self.answers.availability()) {
            (Availability::Away, _) | (_, Availability::Away) => Availability::Away,
            (Availability::Starting, _) | (_, Availability::Starting) => Availability::Starting,
            (Availability::Ok, Availability::Ok) => Availability::Ok,
        }
    }

    fn send_barrier(&mut self, number: u64) -> bool {
        self.other.send_barrier(number)
    }

    fn reassert(&mut self, session: SlotId) {
        self.other.reassert(session);
    }

    fn is_settled(&self) -> bool {
        self.other.is_settled()
    }
}
