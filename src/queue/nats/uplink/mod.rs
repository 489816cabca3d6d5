//! Records to JetStream: core publishes whose acknowledgements one subscription gathers.
//!
//! 1. `publish` writes the record into the buffer of the connection, with a reply subject that holds the delivery id, and wakes
//!    the connection. Where the buffer is full, the record waits in a local queue.
//! 2. The connection gives the buffer to its socket when the worker's turn has ended, and fills it again from the queue.
//! 3. It reads all acknowledgements that are there and posts their receipts to the inbox at once.
//! 4. When the connection is lost, a publish refused, or acknowledgements stay out, the local queue is emptied and the uplink is
//!    away; once JetStream answers for the stream again, the inbox starts a new epoch and sessions send
//!    their windows once more.
//! 5. The queue is `ok` with the first record that the stream takes. A worker whose sessions have nothing to send writes a
//!    heartbeat for that. A stream that takes none within five seconds begins anew at 4.
//!
//! Trouble is one of three. *This record, for good*: it is larger than the server or the stream takes, or a rule of
//! the stream is about it alone; the session replaces it. *This record, for now*: the user may not write its subject, or
//! it is held back; its session tries again. *The queue*: everything else, which closes the uplink.
//!
//! A connection whose server does not answer for the stream is left for another one ([`Control`](super::connection::Control)).
//!
//! A lost connection leaves nothing behind on this side: with it end its buffer and the queue, and until the next epoch
//! `publish` takes nothing. What the server has in its socket may be stored behind records of that epoch, so
//! acknowledgements of what was sent before the loss count for nothing: the order of those that count is the order sent.
//!
//! Records do not go by async-nats but by a client that has nothing else to do
//! ([`DirectClient`](super::connection::DirectClient)): `docs/decisions/0012-own-nats-writer.md`.

mod acknowledgement;
mod in_flight;
mod publisher;
mod supervisor;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use self::in_flight::InFlight;
use self::publisher::{Outlet, Tally};
use super::connection::Access;
use super::{NatsError, NatsSettings, NatsStats};
use crate::protocol::throttle::Throttle;
use crate::protocol::uplink::{DeliveryId, Handover, Inbox, Receipt, Record, Uplink};
use crate::queue::count;

pub use self::acknowledgement::{Acknowledgement, Answerer, StreamIdentity};

/// Records that may wait for the writer. They are shared with the sessions that hold them until their receipt, so one
/// costs about 150 bytes here, 150 MiB in all at worst.
const RECORDS_MAX: usize = 1 << 20;

/// Sessions look at their deadlines once a second.
const HELD_BACK_LONGER: Duration = Duration::from_secs(2);

/// A size above the user's limit is tried again after this time: it costs the connection when it is still too much.
const ALLOWANCE_HOLDS: Duration = Duration::from_secs(600);

/// One worker's way to JetStream.
pub struct NatsUplink {
    shared: Rc<Shared>,
    supervisor: JoinHandle<()>,
}

struct Shared {
    queue: RefCell<RecordQueue>,
    /// Set once the connection has its parts, before the queue is opened.
    outlet: OnceCell<Outlet>,
    /// Room for headers that are made for one record.
    scratch: RefCell<Vec<u8>>,
    /// Receipts of what has been read at once.
    receipts: RefCell<Vec<Receipt>>,
    in_flight: RefCell<InFlight>,
    /// The stream whose acknowledgements count; `STREAM.INFO` tells the domain.
    identity: RefCell<StreamIdentity>,
    /// Whether the stream has taken a record, or judged one, since the uplink was opened.
    is_confirmed: Cell<bool>,
    /// Whether somebody on this connection refuses records in the name of the stream that the stream itself stores: a
    /// stream of the same name in another domain, for a refusal names no domain. Refusals mean nothing then.
    is_disputed: Cell<bool>,
    /// When the stream last took a record, or the uplink was opened.
    stored_at: Cell<Instant>,
    /// Whether the server has forbidden a subject since then.
    is_forbidden: Cell<bool>,
    /// Messages above this size the user of the connection may not send, although the server takes them, and since when
    /// that is known.
    allowance: Cell<Option<(usize, Instant)>>,
    /// Size of the largest record that was on its way when the connection was lost.
    largest_lost: Cell<Option<usize>>,
    trouble: Cell<Option<Trouble>>,
    held_back: Cell<Option<HeldBack>>,
    troubled: Notify,
    max_payload: Cell<Option<usize>>,
    inbox: Arc<Inbox>,
    stats: Arc<NatsStats>,
    tally: Tally,
    complaints: RefCell<Throttle>,
}

#[derive(Debug, Default)]
struct RecordQueue {
    open: bool,
    overflowed: bool,
    records: VecDeque<(DeliveryId, Record)>,
}

/// Records of which a server that hung may still have copies in its socket. When it goes on, it hands them to the stream
/// behind everything that came over the next connection, so no further copy of them may be stored: their sessions end
/// without an acknowledgement, as they do while the queue is away, and the last copies of all others stay in order.
#[derive(Debug, Clone, Copy)]
struct HeldBack {
    /// The time before which a held record was received, ms since 1970.
    before_ms: u64,
    /// By then their sessions have ended; what is left of them, presence, is sent.
    until: Instant,
}

/// A reason why the uplink is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Disconnected,
    Refused,
    Stalled,
    AcknowledgementsLost,
    /// The local queue was full and has room again: sessions must send what was refused.
    Overflowed,
}

impl NatsUplink {
    /// Starts on the calling thread, inside a `LocalSet`; a server that is away is waited for.
    ///
    /// # Errors
    /// [`NatsError`] when the settings cannot be used.
    ///
    /// # Panics
    /// Outside a `LocalSet`.
    pub fn start(settings: &NatsSettings, inbox: Arc<Inbox>, stats: Arc<NatsStats>) -> Result<Self, NatsError> {
        let access = Access::new(settings)?;
        let shared = Rc::new(Shared {
            queue: RefCell::default(),
            outlet: OnceCell::new(),
            scratch: RefCell::default(),
            receipts: RefCell::default(),
            in_flight: RefCell::new(InFlight::new(Instant::now())),
            identity: RefCell::new(StreamIdentity::new(&settings.stream, None)),
            is_confirmed: Cell::new(false),
            is_disputed: Cell::new(false),
            stored_at: Cell::new(Instant::now()),
            is_forbidden: Cell::new(false),
            allowance: Cell::new(None),
            largest_lost: Cell::new(None),
            trouble: Cell::new(None),
            held_back: Cell::new(None),
            troubled: Notify::new(),
            max_payload: Cell::new(None),
            inbox,
            stats,
            tally: Tally::default(),
            complaints: RefCell::new(Throttle::new(Duration::from_secs(10))),
        });
        let supervisor = tokio::task::spawn_local(supervisor::run(Rc::clone(&shared), access));
        Ok(Self { shared, supervisor })
    }

    /// Largest message that the server takes, headers included, in bytes; `None` until it was reached.
    pub fn max_payload(&self) -> Option<usize> {
        self.shared.max_payload.get()
    }
}

impl Drop for NatsUplink {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

impl Uplink for NatsUplink {
    fn publish(&mut self, id: DeliveryId, record: &Record) -> Handover {
        let mut queue = self.shared.queue.borrow_mut();
        if !queue.open || queue.records.len() >= RECORDS_MAX {
            queue.overflowed |= queue.open;
            count(&self.shared.stats.refused);
            return Handover::NotTaken;
        }
        // What is open has one.
        let Some(outlet) = self.shared.outlet.get() else { return Handover::NotTaken };
        if queue.records.is_empty() && outlet.client.has_room() {
            drop(queue);
            outlet.write(&self.shared, id, record);
        } else {
            queue.records.push_back((id, record.clone()));
            outlet.client.wake();
        }
        Handover::Taken
    }

    fn flush(&mut self) {
        // The connection was woken by the first record of the tick and writes when the tick has ended.
    }
}

impl Shared {
    fn report_trouble(&self, trouble: Trouble) {
        if self.trouble.get().is_none() {
            self.trouble.set(Some(trouble));
            self.troubled.notify_one();
        }
    }

    fn open(&self) {
        self.in_flight.borrow_mut().restart(Instant::now());
        self.stored_at.set(Instant::now());
        self.is_forbidden.set(false);
        self.is_confirmed.set(false);
        self.trouble.set(None);
        self.queue.borrow_mut().open = true;
    }

    /// Notes that the stream has taken a record, or judged one, that was sent since the uplink was opened.
    fn confirm(&self) {
        if !self.is_confirmed.replace(true) {
            self.inbox.confirm();
        }
    }

    /// Fails what is on its way on a subject that the user may not write: for now, as rights come back.
    fn forbid(&self, subject: &str) {
        let failed = self.in_flight.borrow_mut().fail(subject);
        for id in failed {
            self.is_forbidden.set(true);
            count(&self.stats.failed);
            self.inbox.post_one(Receipt::Failed(id));
        }
    }

    /// Learns from the end of a connection that the largest record on its way is too large for the user.
    fn note_payload_violation(&self) {
        // The connection may have ended meanwhile.
        let largest = self.in_flight.borrow().largest();
        if let Some(largest) = largest.or(self.largest_lost.take()) {
            self.allowance.set(Some((largest.saturating_sub(1), Instant::now())));
        }
    }

    /// How many bytes a message may have at most, where the server says `max_payload`.
    fn limit(&self, max_payload: usize) -> usize {
        let allowance = self.allowance.get().filter(|(_, since)| since.elapsed() < ALLOWANCE_HOLDS);
        allowance.map_or(max_payload, |(bytes, _)| bytes.min(max_payload))
    }

    fn close(&self) {
        let mut queue = self.queue.borrow_mut();
        queue.open = false;
        queue.overflowed = false;
        // Not `clear`, which would keep the memory of the longest line there ever was.
        queue.records = VecDeque::new();
    }

    /// Holds back what was taken until now, for as long as sessions wait for it.
    fn hold_back(&self, ack_timeout: Duration) {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let before_ms = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
        self.held_back.set(Some(HeldBack { before_ms, until: Instant::now() + ack_timeout + HELD_BACK_LONGER }));
    }

    fn is_held_back(&self, record: &Record) -> bool {
        let Some(HeldBack { before_ms, until }) = self.held_back.get() else { return false };
        if Instant::now() >= until {
            self.held_back.set(None);
            return false;
        }
        record.recorded_ms <= before_ms
    }

    /// Closes the queue with the connection. What was sent over it counts for nothing any more.
    fn disconnect(&self) {
        self.close();
        self.is_disputed.set(false);
        let mut in_flight = self.in_flight.borrow_mut();
        self.largest_lost.set(in_flight.largest());
        in_flight.disconnect(Instant::now());
    }

    /// Takes the next record that waits for room.
    fn next(&self) -> Option<(DeliveryId, Record)> {
        let mut queue = self.queue.borrow_mut();
        let next = queue.records.pop_front()?;
        let has_room_again = queue.overflowed && queue.records.len() < RECORDS_MAX / 2;
        drop(queue);
        if has_room_again {
            self.report_trouble(Trouble::Overflowed);
        }
        Some(next)
    }

    fn note_foreign(&self, answerer: &Answerer) {
        if self.stats.note_foreign(&answerer.to_string()) {
            tracing::warn!(
                %answerer,
                "somebody else answers records: only the stream of the configuration acknowledges them"
            );
        }
    }

    fn complain(&self, complaint: &'static str, cause: &str) {
        if let Some(suppressed) = self.complaints.borrow_mut().pass(Instant::now()) {
            tracing::error!(cause, suppressed, "{complaint}");
        }
    }
}
