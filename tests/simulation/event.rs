//! Everything that can happen in a world.

use jetlinks_bridge::protocol::downlink::DownlinkEvent;
use jetlinks_bridge::protocol::uplink::Receipt;

use crate::faults::Kind;
use crate::node::At;
use crate::wire::Direction;

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// A device looks at its clock.
    Device(usize),
    /// Something may arrive on a wire.
    Arrive(usize, Direction),
    /// A connection is accepted.
    Accept(usize),
    /// A worker looks at its deadlines.
    Tick(At),
    /// The parts of a replica look at what they were told, in that incarnation.
    WorkerMessage(usize, u64),
    /// A replica goes on to shut down.
    Drain(usize, u64),
    /// The oldest record of a record queue has its turn at the queue.
    Turn(At),
    /// The queue has news for a worker.
    Queue(At, News),
    /// A claim arrives, as text.
    Claim(usize, u64, String),
    /// The connection of a replica to the server is there, or lost.
    Server(usize, u64, bool),
    /// A barrier behind claims comes back.
    Barrier(usize, u64, u64),
    /// Something arrives from the server of commands.
    Command(At, Box<DownlinkEvent>),
    /// The world looks for devices with two sessions.
    Look,
    /// A caller asks.
    Call,
    /// A fault begins.
    Fault,
    /// A fault of that kind begins.
    Strike(Kind, At),
    /// A fault ends.
    Heal(Kind, At),
}

impl Event {
    /// A number for its kind.
    pub(crate) fn kind(&self) -> u64 {
        match self {
            Event::Device(_) => 1,
            Event::Arrive(..) => 2,
            Event::Accept(_) => 3,
            Event::Tick(_) => 4,
            Event::WorkerMessage(..) => 5,
            Event::Drain(..) => 6,
            Event::Turn(_) => 7,
            Event::Queue(..) => 8,
            Event::Claim(..) => 9,
            Event::Server(..) => 10,
            Event::Barrier(..) => 11,
            Event::Command(..) => 12,
            Event::Call => 13,
            Event::Fault => 14,
            Event::Heal(..) => 15,
            Event::Look => 16,
            Event::Strike(..) => 17,
        }
    }
}

/// News of the queue for a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// Answers to records.
    Receipts(Vec<Receipt>),
    /// The connection is lost.
    Away,
    /// The connection is there again.
    Back,
    /// The queue takes records again that it had no room for.
    Room,
    /// Nothing has proved yet that the queue stores records.
    Unproved,
}
