//! A replica's connection to the queue: what it took waits in a record queue until the queue stores it, refuses it or loses it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use jetlinks_bridge::protocol::uplink::{DeliveryId, Handover, Receipt, Record, RecordRefusal, Uplink};

use crate::device::REFUSED;
use crate::random::Random;

/// Records that wait at most; one more is refused.
const RECORDS_MAX: usize = 40;

/// Effect of a planted mistake on the acknowledgements of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acknowledging {
    /// Nothing: the queue's own acknowledgement counts.
    Rightly,
    /// A record counts as stored once it is handed over.
    Early,
    /// The answer of another stream, which stores the same subjects, counts, too.
    Foreign,
}

/// Treatment of records at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Conditions {
    /// Of 1,000 records so many are lost, and the client is told or cluster_events that.
    pub(crate) lost: u64,
    /// Of 1,000 acknowledgements so many are lost: stored, and the client believes that it is not.
    pub(crate) untold: u64,
    /// How long a record takes at least and at most, us.
    pub(crate) delay_us: (u64, u64),
}

/// The record queue, shared by the replica and the world.
#[derive(Debug)]
pub(crate) struct RecordQueue {
    waiting: VecDeque<(DeliveryId, Record)>,
    /// Records whose turn the world has not planned yet.
    unplanned: usize,
    /// Receipts that are there without the queue.
    early: Vec<Receipt>,
    /// The connection to the queue is lost.
    pub(crate) is_away: bool,
    /// Records that wait reach the queue all the same, and their receipts do not count.
    pub(crate) hangs: bool,
    /// Something was refused, so that a new epoch is due.
    pub(crate) has_refused: bool,
    pub(crate) conditions: Conditions,
    acknowledging: Acknowledging,
}

/// Result of a record at the queue.
#[derive(Debug)]
pub(crate) enum StoreResult {
    /// It is stored, and a receipt says so.
    Stored(Record, Receipt),
    /// It is stored, and the client does not hear of it.
    Untold(Record, Receipt),
    /// It is not stored.
    Lost(Receipt),
    /// It will never be.
    Refused(Receipt),
}

impl RecordQueue {
    /// An empty record queue to a queue that stores everything.
    pub(crate) fn new(acknowledging: Acknowledging, conditions: Conditions) -> Self {
        Self {
            waiting: VecDeque::new(),
            unplanned: 0,
            early: Vec::new(),
            is_away: false,
            hangs: false,
            has_refused: false,
            conditions,
            acknowledging,
        }
    }

    /// How many records were taken since the last call: the world lets each have its turn.
    pub(crate) fn take_unplanned(&mut self) -> usize {
        std::mem::take(&mut self.unplanned)
    }

    /// Receipts that no queue has given.
    pub(crate) fn take_early(&mut self) -> Vec<Receipt> {
        std::mem::take(&mut self.early)
    }

    /// How many records wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The oldest record has its turn.
    pub(crate) fn advance(&mut self, random: &mut Random) -> Option<StoreResult> {
        let (id, record) = self.waiting.pop_front()?;
        if is_refused(&record) {
            return Some(StoreResult::Refused(Receipt::Refused(
                id,
                Box::new(RecordRefusal::Rule("a rule".to_owned())),
            )));
        }
        let is_lost = random.happens(self.conditions.lost);
        Some(if is_lost && self.acknowledging == Acknowledging::Foreign {
            // Where the own stream has no copy, another one may.
            StoreResult::Lost(Receipt::Stored(id))
        } else if is_lost {
            StoreResult::Lost(Receipt::Failed(id))
        } else if random.happens(self.conditions.untold) {
            StoreResult::Untold(record, Receipt::Failed(id))
        } else {
            StoreResult::Stored(record, Receipt::Stored(id))
        })
    }

    /// The connection is lost. What waits is lost with it from some record on, or `hangs` and is stored later; what is
    /// stored at once is given back.
    pub(crate) fn leave(&mut self, hangs: bool, random: &mut Random) -> Vec<Record> {
        self.is_away = true;
        self.hangs = hangs;
        if hangs {
            return Vec::new();
        }
        let stored = random.below(self.waiting.len() + 1);
        let records = self.waiting.drain(..).take(stored).map(|(_, record)| record);
        records.filter(|record| !is_refused(record)).collect()
    }

    /// The connection is there again. What hung is stored before anything that comes later.
    pub(crate) fn come_back(&mut self) -> Vec<Record> {
        self.is_away = false;
        self.hangs = false;
        self.has_refused = false;
        let records = self.waiting.drain(..).map(|(_, record)| record);
        records.filter(|record| !is_refused(record)).collect()
    }
}

/// Whether the queue has a rule against the record.
fn is_refused(record: &Record) -> bool {
    let has_word = record.payload.windows(REFUSED.len()).any(|bytes| bytes == REFUSED.as_bytes());
    has_word && record.channel == jetlinks_bridge::protocol::uplink::Channel::Device
}

/// The replica's end.
#[derive(Debug)]
pub(crate) struct Client(pub(crate) Rc<RefCell<RecordQueue>>);

impl Uplink for Client {
    fn publish(&mut self, id: DeliveryId, record: &Record) -> Handover {
        let records = &mut *self.0.borrow_mut();
        if records.is_away || records.waiting.len() >= RECORDS_MAX {
            records.has_refused = true;
            return Handover::NotTaken;
        }
        if records.acknowledging == Acknowledging::Early {
            records.early.push(Receipt::Stored(id));
        }
        records.waiting.push_back((id, record.clone()));
        records.unplanned += 1;
        Handover::Taken
    }

    fn flush(&mut self) {}
}
