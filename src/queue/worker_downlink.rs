//! One worker's way to whoever gives commands.

use super::Calls;
use super::kafka::KafkaAnswers;
use crate::protocol::downlink::{Downlink, Outcome, Ticket};
use crate::protocol::id::{DeviceId, ProductId};
use crate::protocol::uplink::{Availability, SlotId};

/// The queue of commands, and beside it what gives commands by a ticket of its own: the process itself, and Kafka. Each outcome
/// goes back to where its command came from.
///
/// Where Kafka brings commands, devices are found by their interest in the other queue, by which replicas hand commands over, or
/// without any ([`ImmediateInterest`](super::ImmediateInterest)).
pub struct WorkerDownlink {
    calls: Calls,
    /// Takes the outcomes of commands that this replica has read from Kafka.
    kafka: Option<KafkaAnswers>,
    /// Declares the interests, and takes all other outcomes.
    queue: Box<dyn Downlink>,
}

impl WorkerDownlink {
    /// Joins them. The tickets of `queue` leave their two highest bits clear.
    pub fn new(calls: Calls, kafka: Option<KafkaAnswers>, queue: Box<dyn Downlink>) -> Self {
        Self { calls, kafka, queue }
    }

    /// Whether the command came from the queue.
    fn is_of_queue(&self, ticket: Ticket) -> bool {
        !Calls::owns(ticket) && (self.kafka.is_none() || !KafkaAnswers::owns(ticket))
    }
}

impl Downlink for WorkerDownlink {
    fn attach(&mut self, session: SlotId, addresses: &[(ProductId, DeviceId)]) {
        self.queue.attach(session, addresses);
    }

    fn detach(&mut self, session: SlotId) {
        self.queue.detach(session);
    }

    fn held_bytes(&self, ticket: Ticket) -> usize {
        // What is kept of a record is counted where it was read.
        if self.is_of_queue(ticket) { self.queue.held_bytes(ticket) } else { 0 }
    }

    fn answer(&mut self, ticket: Ticket, outcome: Outcome) {
        match &self.kafka {
            _ if Calls::owns(ticket) => self.calls.answer(ticket, outcome),
            Some(kafka) if KafkaAnswers::owns(ticket) => kafka.answer(ticket, outcome),
            _ => self.queue.answer(ticket, outcome),
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
        // Away counts most, then starting.
        match (self.queue.availability(), self.kafka.as_ref().map_or(Availability::Ok, KafkaAnswers::availability)) {
            (Availability::Away, _) | (_, Availability::Away) => Availability::Away,
            (Availability::Starting, _) | (_, Availability::Starting) => Availability::Starting,
            (Availability::Ok, Availability::Ok) => Availability::Ok,
        }
    }

    fn is_uplink(&self, ticket: Ticket) -> bool {
        self.is_of_queue(ticket) && self.queue.is_uplink(ticket)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::super::calls::tests::outcome;
    use super::*;
    use crate::queue::kafka::{KafkaCommandSettings, KafkaCommands, KafkaSettings};

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

    #[test]
    fn each_outcome_goes_to_whoever_gave_the_command_and_only_once() {
        let (calls, noted) = (Calls::default(), Arc::default());
        let mut downlink = WorkerDownlink::new(calls.clone(), None, Box::new(Noting(Arc::clone(&noted))));
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
    fn outcomes_of_commands_from_kafka_go_to_kafka_alone_and_its_state_counts() {
        let settings = KafkaCommandSettings::new(KafkaSettings::new("127.0.0.1:9".to_owned()), None);
        let commands = KafkaCommands::new(settings, Arc::default()).unwrap();
        let noted = Arc::default();
        let queue = Box::new(Noting(Arc::clone(&noted)));
        let mut downlink = WorkerDownlink::new(Calls::default(), Some(commands.answers()), queue);
        for ticket in [Ticket(1 << 63 | 5), Ticket(6)] {
            assert_eq!(downlink.is_uplink(ticket), ticket == Ticket(6));
            downlink.answer(ticket, outcome());
        }
        assert_eq!(*noted.lock().unwrap(), [6]);
        assert_eq!(downlink.availability(), Availability::Starting);
    }
}
