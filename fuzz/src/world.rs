//! The world around a session: a queue that stores, loses and forgets as it is told, and callers that count outcomes.

use std::collections::{BTreeSet, VecDeque};

use jetlinks_bridge::protocol::child::{Child, Children};
use jetlinks_bridge::protocol::command::MessageIds;
use jetlinks_bridge::protocol::downlink::{Downlink, Outcome, Ticket};
use jetlinks_bridge::protocol::envelope::{Encoder, Mode};
use jetlinks_bridge::protocol::id::{DeviceId, ProductId};
use jetlinks_bridge::protocol::limit::{Limits, Load, Now};
use jetlinks_bridge::protocol::uplink::{Addressing, DeliveryId, Handover, Record, SlotId, Uplink};
use jetlinks_bridge::session::mqtt::{Context, Event, Observer, SpareBuffers};

/// Messages are numbered; their number stands between two of these in topic or payload.
pub const MARK: u8 = b'~';

/// The number of the message in a record; `None` for what the bridge says about the device.
fn number(record: &Record) -> Option<u32> {
    let mut parts = record.payload.split(|byte| *byte == MARK);
    let number = parts.nth(1)?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// A queue. What it took stands in a line until it is stored or lost, and a receipt waits until it is delivered.
#[derive(Debug, Default)]
pub struct Queue {
    /// Refuses everything.
    pub is_away: bool,
    /// Every record that was handed over, copies included.
    pub taken: Vec<Option<u32>>,
    /// Every record that was stored, copies included, in stored order.
    pub stored: Vec<Option<u32>>,
    line: VecDeque<(DeliveryId, Option<u32>)>,
    receipts: Vec<(DeliveryId, bool)>,
}

impl Queue {
    /// Stores the next record of the line.
    pub fn store(&mut self, has_receipt: bool) -> bool {
        let Some((id, number)) = self.line.pop_front() else { return false };
        self.stored.push(number);
        if has_receipt {
            self.receipts.push((id, true));
        }
        true
    }

    /// Loses the next record of the line, and says so.
    pub fn lose(&mut self) {
        if let Some((id, _)) = self.line.pop_front() {
            self.receipts.push((id, false));
        }
    }

    /// Goes away. What stands in the line is lost, or stored before everything that comes later.
    pub fn leave(&mut self, loses_line: bool) {
        self.is_away = true;
        if loses_line {
            self.line.clear();
        }
    }

    /// Takes a receipt that was not delivered yet.
    pub fn receipt(&mut self, index: usize) -> Option<(DeliveryId, bool)> {
        let index = index.checked_rem(self.receipts.len())?;
        Some(self.receipts.remove(index))
    }
}

impl Uplink for Queue {
    fn publish(&mut self, id: DeliveryId, record: &Record) -> Handover {
        if self.is_away {
            return Handover::NotTaken;
        }
        let number = number(record);
        self.taken.push(number);
        self.line.push_back((id, number));
        Handover::Taken
    }

    fn flush(&mut self) {}
}

/// Callers of commands.
#[derive(Debug, Default)]
pub struct Callers {
    /// Commands that somebody waits for.
    pub asked: u64,
    answered: BTreeSet<u64>,
}

impl Callers {
    /// A ticket for another command.
    pub fn ask(&mut self) -> Ticket {
        self.asked += 1;
        Ticket(self.asked)
    }

    /// How many have their outcome.
    pub fn answered(&self) -> u64 {
        self.answered.len() as u64
    }
}

impl Downlink for Callers {
    fn attach(&mut self, _: SlotId, _: &[(ProductId, DeviceId)]) {}

    fn detach(&mut self, _: SlotId) {}

    fn answer(&mut self, ticket: Ticket, _: Outcome) {
        assert!((1..=self.asked).contains(&ticket.0), "an outcome for nobody");
        assert!(self.answered.insert(ticket.0), "a second outcome for one command");
    }
}

/// No device has children.
#[derive(Debug)]
pub struct NoChildren;

impl Children for NoChildren {
    fn child(&self, _: &str) -> Child {
        Child::Unknown
    }
}

struct Silent;

impl Observer for Silent {
    fn event(&mut self, _: Event<'_>) {}
}

/// Everything but the session.
#[derive(Debug)]
pub struct World {
    /// The clocks.
    pub now: Now,
    /// The bounds.
    pub limits: Limits,
    /// Memory that the session holds.
    pub load: Load,
    /// The queue.
    pub queue: Queue,
    /// The callers.
    pub callers: Callers,
    /// Bytes for the device.
    pub sent: Vec<u8>,
    encoder: Encoder,
    message_ids: MessageIds,
    spare_buffers: SpareBuffers,
}

impl Default for World {
    fn default() -> Self {
        Self {
            now: Now { unix_ms: 1_795_338_000_000, us: 1_000_000 },
            limits: Limits {
                packet_bytes: 1024,
                inflight_per_connection: 6,
                inflight_bytes: 16 * 1024,
                ack_timeout_us: 10_000_000,
                keep_alive_max_us: 1_200_000_000,
                command_timeout_ms: 5_000,
                command_timeout_max_ms: 60_000,
                commands_per_device: 4,
                commands: 6,
            },
            load: Load::default(),
            queue: Queue::default(),
            callers: Callers::default(),
            sent: Vec::new(),
            encoder: Encoder::new(Mode::Structured, Addressing::Key, "replica1".to_owned(), 7),
            message_ids: MessageIds::new(0, 0, 1),
            spare_buffers: SpareBuffers::default(),
        }
    }
}

impl World {
    /// Runs `act` with a context for the session.
    pub fn with<R>(&mut self, act: impl FnOnce(&mut Context<'_>) -> R) -> R {
        self.encoder.set_now(self.now.unix_ms);
        act(&mut Context {
            now: self.now,
            limits: &self.limits,
            load: &mut self.load,
            encoder: &mut self.encoder,
            uplink: &mut self.queue,
            downlink: &mut self.callers,
            children: &NoChildren,
            observer: &mut Silent,
            is_followed: true,
            send: &mut self.sent,
            message_ids: &mut self.message_ids,
            spare_buffers: &mut self.spare_buffers,
        })
    }

    /// Lets tenths of a second pass.
    pub fn pass(&mut self, tenths: u64) {
        self.now.us += tenths * 100_000;
        self.now.unix_ms += tenths * 100;
    }
}
