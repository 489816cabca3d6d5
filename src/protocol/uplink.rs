//! The interface between sessions and the queue: records go out, receipts come back.
//!
//! A session hands over [`Record`]s under a [`DeliveryId`]; the queue answers each token with one [`Receipt`]. Nothing here
//! does I/O: a worker drives both sides on its own thread.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::trace::TraceContext;

/// Names one copy of one record on its way: the connection's slot, the slot's generation (slots are reused) and a
/// sequence number that the session gives anew with each sending, so a late receipt of an earlier copy is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeliveryId {
    /// Slot of the connection in its worker.
    pub slot: u32,
    /// Generation of the slot, which grows each time that the slot is released, modulo 2^16.
    pub generation: u16,
    /// Number of the sending within the session, modulo 2^16.
    pub sequence: u16,
}

impl DeliveryId {
    /// Of a record that no session waits for: the bridge's own. Its receipt tells of the queue and of nothing else.
    pub const NOBODY: Self = Self { slot: u32::MAX, generation: 0, sequence: 0 };

    /// The token in one integer, for queues that carry a number with each message.
    pub fn to_u64(self) -> u64 {
        u64::from(self.slot) << 32 | u64::from(self.generation) << 16 | u64::from(self.sequence)
    }

    /// The inverse of [`DeliveryId::to_u64`].
    #[expect(clippy::cast_possible_truncation, reason = "takes the number apart on purpose")]
    pub fn from_u64(number: u64) -> Self {
        Self { slot: (number >> 32) as u32, generation: (number >> 16) as u16, sequence: number as u16 }
    }
}

/// Kind of a record; each has its subjects or its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Device messages and presence.
    Device,
    /// Rejected messages.
    Rejected,
    /// Heartbeats of this replica.
    Replica,
}

/// Addresses of records in the queue; decided once, from the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addressing {
    /// A NATS subject below this prefix (without a trailing dot).
    Subject(String),
    /// A key: the id of the device that the record is about.
    Key,
}

/// One envelope, ready for the queue. Cheap to clone: kept until its receipt, for a second sending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Kind of the record.
    pub channel: Channel,
    /// The NATS subject or the Kafka key, as [`Addressing`] says.
    pub address: Bytes,
    /// The value: the envelope, or in binary mode its `data`.
    pub payload: Bytes,
    /// Binary mode: the envelope's attributes by their bare names (`id`, `source`, …), values as they are. Empty in
    /// structured mode.
    pub attributes: Vec<(&'static str, String)>,
    /// Time of receipt of the message, ms since 1970.
    pub recorded_ms: u64,
    /// Header `traceparent` of the record; `None` where the trace is not sampled, with tracing off, and for presence and
    /// heartbeats. A header for each message would cost twice what the attribute does.
    pub trace: Option<TraceContext>,
}

impl Record {
    /// Memory that the record takes while it is held: its bytes, its attributes, and [`Record::FIXED_BYTES`].
    pub fn held_bytes(&self) -> usize {
        let attributes: usize =
            self.attributes.iter().map(|(_, value)| Self::ATTRIBUTE_BYTES.saturating_add(value.len())).sum();
        Self::FIXED_BYTES + self.address.len() + self.payload.len() + attributes
    }

    /// Bytes that any record takes beside its text: its places in the session's window and in the queue's line.
    pub const FIXED_BYTES: usize = 400;

    /// Bytes of an attribute beside its text: its place among the others and an allocation of its own.
    const ATTRIBUTE_BYTES: usize = size_of::<(&'static str, String)>() + 24;
}

/// Reason why the queue refuses a record for good, however often it is sent. The text is the queue's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It is larger than the queue allows.
    TooLarge(String),
    /// A rule about this record alone: about its subject, its topic or its content.
    Rule(String),
}

impl Refusal {
    /// The queue's words.
    pub fn cause(&self) -> &str {
        let (Refusal::TooLarge(cause) | Refusal::Rule(cause)) = self;
        cause
    }
}

/// The queue's answer to one token. A failure of the queue as a whole is none of these: it is
/// [`Availability::Away`], and a new epoch once it is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// The queue has the record.
    Stored(DeliveryId),
    /// The queue does not have this record for now, as far as can be told. Its session alone waits: it sends its window
    /// again about once a second, until its time for acknowledgements is over.
    Failed(DeliveryId),
    /// The queue will never store this record: a rejected envelope takes its place.
    Refused(DeliveryId, Box<Refusal>),
}

/// Whether a record can be handed over at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// Taken; a receipt follows, unless the queue goes away, which [`Inbox`] reports as a new epoch.
    Taken,
    /// Not taken, and no receipt follows: the queue is away or its buffer is full. Send again when the epoch changes.
    Refused,
}

/// One worker's way to the queue. Used by that worker's thread alone.
pub trait Uplink {
    /// Hands one record over. Records are stored in the order in which they were taken. Never blocks.
    fn publish(&mut self, token: DeliveryId, record: &Record) -> Handover;

    /// Ends a tick: what was taken since the last call should leave now.
    fn flush(&mut self);
}

/// State of the queue as its client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// Not reached yet.
    Starting,
    /// Taking records.
    Ok,
    /// Was reached, and is gone.
    Away,
}

/// Receipts that a vector keeps room for when it is empty, some 400 KiB: more come behind an outage alone.
const RECEIPTS_KEPT: usize = 16 * 1024;

/// Receipts and state of a queue for its worker; filled from any thread, emptied by the worker.
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

/// One emptying of an [`Inbox`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// The state of the queue.
    pub availability: Availability,
    /// Counts the times that the queue became able to take records again. When it has grown, every session sends what
    /// it has not seen stored once more.
    pub epoch: u64,
    /// Whether the queue asks for a record of the bridge itself, whose receipt proves that records are stored.
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

    /// Adds receipts; leaves `receipts` empty, with the capacity of a usual batch.
    pub fn post(&self, receipts: &mut Vec<Receipt>) {
        if receipts.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.receipts.append(receipts);
        wake(state);
        receipts.shrink_to(RECEIPTS_KEPT);
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

    /// Starts a new epoch in the state that was: the queue takes records, and whether it stores them is still to be proved.
    /// Sessions send their windows, and the worker a record of its own, so that there is one when no session has any.
    /// [`Inbox::confirm`] follows with the first record that is stored.
    pub fn begin_epoch(&self) {
        let mut state = self.lock();
        state.epoch += 1;
        state.wants_heartbeat = true;
        state.changed = true;
        wake(state);
    }

    /// Asks for a record of the bridge itself, within the epoch.
    pub fn ask_for_heartbeat(&self) {
        let mut state = self.lock();
        state.wants_heartbeat = true;
        state.changed = true;
        wake(state);
    }

    /// Reports that the queue stores records, within the epoch.
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

    /// Waits until there is something, then moves all receipts into `receipts` (which must be empty: the two vectors
    /// change places). One task polls.
    pub fn poll_take(&self, cx: &mut Context<'_>, receipts: &mut Vec<Receipt>) -> Poll<Report> {
        let mut state = self.lock();
        if state.receipts.is_empty() && !state.changed {
            if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                state.waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        state.changed = false;
        receipts.shrink_to(RECEIPTS_KEPT);
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
    fn a_token_survives_its_number() {
        let token = DeliveryId { slot: u32::MAX, generation: 7, sequence: u16::MAX };
        assert_eq!(DeliveryId::from_u64(token.to_u64()), token);
    }

    #[test]
    fn an_inbox_hands_out_what_was_posted_and_then_waits() {
        let inbox = Inbox::new();
        let mut cx = Context::from_waker(Waker::noop());
        let mut taken = Vec::new();
        assert!(inbox.poll_take(&mut cx, &mut taken).is_pending());
        let receipt = Receipt::Stored(DeliveryId { slot: 1, generation: 2, sequence: 3 });
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
        assert!(gathered.capacity() <= RECEIPTS_KEPT);
        for _ in 0..2 {
            assert!(inbox.poll_take(&mut cx, &mut taken).is_ready());
            taken.clear();
            inbox.post_one(Receipt::Stored(DeliveryId::NOBODY));
        }
        assert!(taken.capacity() <= RECEIPTS_KEPT && inbox.lock().receipts.capacity() <= RECEIPTS_KEPT);
    }

    #[test]
    fn an_epoch_that_nothing_proves_yet_leaves_the_state_and_asks_for_a_proof_once() {
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
