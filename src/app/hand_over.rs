//! Commands of one worker from two sides: Kafka through this replica, and NATS from the others.

use crate::protocol::downlink::{Downlink, Outcome, Ticket};
use crate::protocol::id::{DeviceId, ProductId};
use crate::protocol::uplink::{Availability, Token};
use crate::queue::kafka::KafkaAnswers;
use crate::queue::nats::NatsDownlink;

/// Devices are found by their interest on NATS; each outcome goes back to the side that its command came from.
pub struct HandOverDownlink {
    /// Declares the interests.
    pub nats: NatsDownlink,
    /// Takes the outcomes of commands that this replica has read.
    pub kafka: KafkaAnswers,
}

impl Downlink for HandOverDownlink {
    fn attach(&mut self, token: Token, addresses: &[(ProductId, DeviceId)]) {
        self.nats.attach(token, addresses);
    }

    fn detach(&mut self, token: Token) {
        self.nats.detach(token);
    }

    fn answer(&mut self, ticket: Ticket, outcome: Outcome) {
        if KafkaAnswers::owns(ticket) {
            self.kafka.answer(ticket, outcome);
        } else {
            self.nats.answer(ticket, outcome);
        }
    }

    fn held_bytes(&self, ticket: Ticket) -> usize {
        // What is kept of a record is counted where it was read.
        if KafkaAnswers::owns(ticket) { 0 } else { self.nats.held_bytes(ticket) }
    }

    fn availability(&self) -> Availability {
        // Away counts most, then starting.
        match (self.nats.availability(), self.kafka.availability()) {
            (Availability::Away, _) | (_, Availability::Away) => Availability::Away,
            (Availability::Starting, _) | (_, Availability::Starting) => Availability::Starting,
            (Availability::Ok, Availability::Ok) => Availability::Ok,
        }
    }

    fn fence(&mut self, number: u64) -> bool {
        self.nats.fence(number)
    }

    fn reassert(&mut self, token: Token) {
        self.nats.reassert(token);
    }

    fn is_settled(&self) -> bool {
        self.nats.is_settled()
    }
}
