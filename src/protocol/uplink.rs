//! The interface between sessions and the queue: records go out, receipts come back.
//!
//! A session hands over each [`Record`] with a [`DeliveryId`], and the queue answers with one [`Receipt`] for that id.
//! Nothing here does I/O: a worker polls both sides on its own thread.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::trace::TraceContext;

/// Id of a session within its worker. Slots are reused, and the generation tells their sessions apart. A CoAP request has
/// a slot as well, in its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId {
    /// Index of the slot.
    pub index: u32,
    /// Generation of the slot. It grows each time the slot is released, modulo 2^16.
    pub generation: u16,
}

/// Id of one copy of a record that was handed over. Each copy has a new sequence number, so a late receipt of an earlier
/// copy is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeliveryId {
    /// Slot of the session that waits for the receipt.
    pub slot: SlotId,
    /// Number of the copy within the session, modulo 2^16.
    pub sequence: u16,
}

impl DeliveryId {
    /// Id of the bridge's own records (heartbeats), for which no session waits. The receipt shows the worker that the queue
    /// answers.
    pub const NOBODY: Self = Self { slot: SlotId { index: u32::MAX, generation: 0 }, sequence: 0 };

    /// The id as one integer, for clients that carry a number with each message.
    pub fn to_u64(self) -> u64 {
        u64::from(self.slot.index) << 32 | u64::from(self.slot.generation) << 16 | u64::from(self.sequence)
    }

    /// The inverse of [`DeliveryId::to_u64`].
    #[expect(clippy::cast_possible_truncation, reason = "takes the number apart on purpose")]
    pub fn from_u64(number: u64) -> Self {
        let slot = SlotId { index: (number >> 32) as u32, generation: (number >> 16) as u16 };
        Self { slot, sequence: number as u16 }
    }
}

/// Kind of a record. Each kind has its own NATS subjects or its own Kafka topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Device messages and presence.
    Device,
    /// Rejected messages.
    Rejected,
    /// Heartbeats of this replica.
    Replica,
}

/// Form of a record's address; set once, by the configured queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addressing {
    /// A NATS subject below this prefix (without a trailing dot).
    Subject(String),
    /// A Kafka key: the id of the device that the record is about.
    Key,
}

/// An envelope, encoded for the queue. The session keeps it until its receipt, to send it again; a clone is cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Kind of the record.
    pub channel: Channel,
    /// The NATS subject or the Kafka key, as [`Addressing`] says.
    pub address: Bytes,
    /// The NATS payload or the Kafka value: the envelope, or in CloudEvents binary mode its `data`.
    pub payload: Bytes,
    /// Attributes of the envelope in binary mode: names without a prefix (`id`, `source`, …), values not escaped. Empty in
    /// structured mode.
    pub attributes: Vec<(&'static str, String)>,
    /// Time at which the bridge received the message, ms since 1970.
    pub recorded_ms: u64,
    /// Header `traceparent` of the record; `None` for presence and heartbeats, when tracing is off, and when the trace is
    /// not sampled. Then the envelope has only the attribute, which costs half as much as a header.
    pub trace: Option<TraceContext>,
}

impl Record {
    /// Memory that the record takes until its receipt: address, payload, attributes, and [`Record::FIXED_BYTES`].
    pub fn held_bytes(&self) -> usize {
        let attributes: usize =
            self.attributes.iter().map(|(_, value)| Self::ATTRIBUTE_BYTES.saturating_add(value.len())).sum();
        Self::FIXED_BYTES + self.address.len() + self.payload.len() + attributes
    }

    /// Memory of a record besides its contents: its entries in the session's window and in the client's buffer.
    pub const FIXED_BYTES: usize = 400;

    /// Memory of an attribute besides its value: its entry in the vector and the overhead of an allocation.
    const ATTRIBUTE_BYTES: usize = size_of::<(&'static str, String)>() + 24;
}

/// Reason for which the queue will never store a record. The text is the queue's error message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordRefusal {
    /// It is larger than the queue allows.
    TooLarge(String),
    /// It breaks a rule of the queue about its subject, its topic or its content.
    Rule(String),
}

impl RecordRefusal {
    /// The queue's error message.
    pub fn cause(&self) -> &str {
        let (RecordRefusal::TooLarge(cause) | RecordRefusal::Rule(cause)) = self;
        cause
    }
}

/// The queue's answer about one copy of a record. An outage of the queue is not a receipt: it is reported as
/// [`Availability::Away`], and as a new epoch when it is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// The queue has stored the record.
    Stored(DeliveryId),
    /// The queue has not stored the record, as far as is known, and may store another copy. Only its session is affected:
    /// it sends its window again about once a second, until its acknowledgement timeout.
    Failed(DeliveryId),
    /// The queue will never store this record. The session replaces it by a rejected envelope.
    Refused(DeliveryId, Box<RecordRefusal>),
}

/// Result of [`Uplink::publish`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// Taken. A receipt follows, unless an outage begins first; [`Inbox`] reports a new epoch after it.
    Taken,
    /// Not taken, and no receipt follows: the queue is away or its buffer is full. Send it again in the next epoch.
    NotTaken,
}

/// Producer side of the queue for one worker. Used on that worker's thread only.
pub trait Uplink {
    /// Hands one record over. Records are stored in the order in which they were taken. Never blocks.
    fn publish(&mut self, id: DeliveryId, record: &Record) -> Handover;

    /// Ends a batch: the records that were taken since the last call should be sent now.
    fn flush(&mut self);
}

/// State of the queue as its client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// Not connected yet.
    Starting,
    /// Taking records.
    Ok,
    /// Not taking records any more.
    Away,
}

/// Largest capacity that an empty vector of receipts keeps, some 400 KiB. Only after an outage do more come at once.
const RECEIPTS_CAPACITY_MAX: usize = 16 * 1024;

/// Channel for receipts and the state of the queue. Any thread may write to it; one task of the worker reads.
#[derive(Debug)]
pub struct Inbox {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    receipts: Vec<Receipt>,
    availability: Availability,
    epoch: u64,
    wants_heartbeat: bool,
    changed: bool,
    waker: Option<Waker>,
}

/// State of the queue, as [`Inbox::poll_take`] returns it with the receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// The state of the queue.
    pub availability: Availability,
    /// Number of times that the queue began to take records again. When it has grown, every session sends all records
    /// without a receipt again.
    pub epoch: u64,
    /// Whether the queue asks for a heartbeat: its receipt shows that records are stored.
    pub wants_heartbeat: bool,
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Inbox {
    /// An empty inbox; the queue is [`Availability::Starting`].
    pub fn new() -> Self {
        Self {
            state: Mutex::new(State {
                receipts: Vec::new(),
                availability: Availability::Starting,
                epoch: 0,
                wants_heartbeat: false,
                changed: false,
                waker: None,
            }),
        }
    }

    /// Moves all receipts out of `receipts`, which keeps the capacity of a normal batch.
    pub fn post(&self, receipts: &mut Vec<Receipt>) {
        if receipts.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.receipts.append(receipts);
        wake(state);
        receipts.shrink_to(RECEIPTS_CAPACITY_MAX);
    }

    /// Adds one receipt.
    pub fn post_one(&self, receipt: Receipt) {
        let mut state = self.lock();
        state.receipts.push(receipt);
        wake(state);
    }

    /// Reports the state of the queue. Each call with [`Availability::Ok`] starts a new epoch.
    pub fn report(&self, availability: Availability) {
        let mut state = self.lock();
        state.availability = availability;
        state.epoch += u64::from(availability == Availability::Ok);
        state.changed = true;
        wake(state);
    }

    /// Starts a new epoch and leaves the availability as it is: the queue takes records, but has not stored one yet.
    /// Sessions send their windows again. The worker writes a heartbeat, in case no session has a record. The queue calls
    /// [`Inbox::confirm`] when the first record is stored.
    pub fn begin_epoch(&self) {
        let mut state = self.lock();
        state.epoch += 1;
        state.wants_heartbeat = true;
        state.changed = true;
        wake(state);
    }

    /// Asks the worker for a heartbeat. The epoch stays the same.
    pub fn ask_for_heartbeat(&self) {
        let mut state = self.lock();
        state.wants_heartbeat = true;
        state.changed = true;
        wake(state);
    }

    /// Reports that the queue stores records. The epoch stays the same.
    pub fn confirm(&self) {
        let mut state = self.lock();
        state.availability = Availability::Ok;
        state.changed = true;
        wake(state);
    }

    /// The state of the queue at this moment.
    pub fn availability(&self) -> Availability {
        self.lock().availability
    }

    /// Polls for receipts or a change of state, and moves all receipts into `receipts`. That must be empty, as the two
    /// vectors are swapped. Only one task may poll: there is one waker.
    pub fn poll_take(&self, cx: &mut Context<'_>, receipts: &mut Vec<Receipt>) -> Poll<Report> {
        let mut state = self.lock();
        if state.receipts.is_empty() && !state.changed {
            if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                state.waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        state.changed = false;
        receipts.shrink_to(RECEIPTS_CAPACITY_MAX);
        mem::swap(&mut state.receipts, receipts);
        let wants_heartbeat = mem::take(&mut state.wants_heartbeat);
        Poll::Ready(Report { availability: state.availability, epoch: state.epoch, wants_heartbeat })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_the_way_through_an_integer() {
        let id = DeliveryId { slot: SlotId { index: u32::MAX, generation: 7 }, sequence: u16::MAX };
        assert_eq!(DeliveryId::from_u64(id.to_u64()), id);
    }

    #[test]
    fn an_inbox_hands_out_what_was_posted_and_then_waits() {
        let inbox = Inbox::new();
        let mut cx = Context::from_waker(Waker::noop());
        let mut taken = Vec::new();
        assert!(inbox.poll_take(&mut cx, &mut taken).is_pending());
        let receipt = Receipt::Stored(DeliveryId { slot: SlotId { index: 1, generation: 2 }, sequence: 3 });
        inbox.post_one(receipt.clone());
        inbox.report(Availability::Ok);
        let expected = Report { availability: Availability::Ok, epoch: 1, wants_heartbeat: false };
        assert_eq!(inbox.poll_take(&mut cx, &mut taken), Poll::Ready(expected));
        assert_eq!(taken, [receipt]);
        taken.clear();
        assert!(inbox.poll_take(&mut cx, &mut taken).is_pending());
    }

    #[test]
    fn the_room_for_the_receipts_of_an_outage_is_given_back() {
        let inbox = Inbox::new();
        let mut cx = Context::from_waker(Waker::noop());
        let (mut gathered, mut taken) = (Vec::new(), Vec::new());
        gathered.resize(100_000, Receipt::Stored(DeliveryId::NOBODY));
        inbox.post(&mut gathered);
        assert!(gathered.capacity() <= RECEIPTS_CAPACITY_MAX);
        for _ in 0..2 {
            assert!(inbox.poll_take(&mut cx, &mut taken).is_ready());
            taken.clear();
            inbox.post_one(Receipt::Stored(DeliveryId::NOBODY));
        }
        assert!(taken.capacity() <= RECEIPTS_CAPACITY_MAX && inbox.lock().receipts.capacity() <= RECEIPTS_CAPACITY_MAX);
    }

    #[test]
    fn a_new_epoch_leaves_the_availability_until_it_is_confirmed_and_asks_for_one_heartbeat() {
        let inbox = Inbox::new();
        let mut cx = Context::from_waker(Waker::noop());
        let mut taken = Vec::new();
        let mut take = || match inbox.poll_take(&mut cx, &mut taken) {
            Poll::Ready(report) => Some((report.availability, report.epoch, report.wants_heartbeat)),
            Poll::Pending => None,
        };
        inbox.report(Availability::Away);
        inbox.begin_epoch();
        assert_eq!(take(), Some((Availability::Away, 1, true)));
        assert_eq!(take(), None);
        inbox.confirm();
        assert_eq!(take(), Some((Availability::Ok, 1, false)));
        inbox.ask_for_heartbeat();
        assert_eq!(take(), Some((Availability::Ok, 1, true)));
    }
}
