//! Records to Kafka.
//!
//! 1. `publish` copies the record into librdkafka with its delivery id as the opaque number; librdkafka is bounded, and what
//!    does not fit waits in a queue of records shared with the sessions.
//! 2. librdkafka sends batches; the poller's thread polls for the deliveries and posts the receipts.
//! 3. When no broker is there or the producer is broken, the poller takes the producer away: what it held comes back as
//!    failed. A new one takes its place once the topics are there, and a new epoch makes sessions send again; the queue is
//!    back with the first record that is stored. So no record of the old producer can overtake one of the new.
//!    When nothing is stored for five seconds the queue is away, but the producer stays until all it had has come back: what
//!    it sent may still be on its way, and only under its own sequence numbers the broker stores nothing late.
//! 4. Where a batch was larger than its topic takes, the producer is drained and the next one fills smaller batches, in an
//!    epoch of its own; the queue was never away. Where batches should only be larger or smaller than they are, records wait
//!    in that queue meanwhile, and the epoch goes on.
//!
//! One record that fails alone is a matter of its session: it is refused for good (too large, invalid), or failed for now (its
//! partition without a leader until the timeout, a missing right). The queue stays as it is for the others: before it counts
//! as silent a record of the bridge itself has to fail, too.

mod client;
mod poller;
mod progress;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::producer::BaseRecord;

use self::client::{Producer, ProducerStatus};
use self::poller::Poller;
use super::connection::Subject;
use super::connection::properties::{self, ClientKind};
use super::producer::failure;
use super::producer::limits::Limits;
use super::{KafkaError, KafkaSettings, KafkaStats, headers};
use crate::protocol::uplink::{Channel, DeliveryId, Handover, Inbox, Receipt, Record, Uplink};
use crate::queue::count;

/// Records that may wait for room in librdkafka. They are shared with the sessions that hold them until their receipt,
/// so one costs about 150 bytes here, 150 MiB in all at worst.
const RECORDS_MAX: usize = 1 << 20;

/// One worker's way to Kafka.
pub struct KafkaUplink {
    shared: Arc<Shared>,
}

/// State that worker and poller share; locked for the time of one hand-over.
struct Shared {
    queue: Mutex<RecordQueue>,
    is_stopped: AtomicBool,
    inbox: Arc<Inbox>,
    stats: Arc<KafkaStats>,
    uplink_topic: String,
    rejected_topic: String,
}

#[derive(Default)]
struct RecordQueue {
    open: Option<Open>,
    waiting: VecDeque<(DeliveryId, Record)>,
    overflowed: bool,
    /// Whether records wait for the next producer, although none is open.
    is_held: bool,
}

/// The producer that takes records at present.
struct Open {
    producer: Arc<Producer>,
    status: Arc<ProducerStatus>,
    /// Bytes of key and value above which a record to the topic can never be stored.
    uplink_max: usize,
    rejected_max: usize,
}

/// The result of a hand-over to librdkafka.
enum Sent {
    /// librdkafka has it.
    Yes,
    /// There is no room at present.
    Full,
    /// It went nowhere; this is its receipt.
    Answered(Receipt),
}

impl KafkaUplink {
    /// Checks the settings and starts the poller's thread; brokers that are away are waited for.
    ///
    /// # Errors
    /// [`KafkaError`] when the settings cannot be used.
    pub fn start(settings: &KafkaSettings, inbox: Arc<Inbox>, stats: Arc<KafkaStats>) -> Result<Self, KafkaError> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            is_stopped: AtomicBool::new(false),
            inbox,
            stats,
            uplink_topic: settings.uplink_topic.clone(),
            rejected_topic: settings.rejected_topic.clone(),
        });
        // The first producer is made here, so that what librdkafka finds wrong only then is found at start.
        let poller = Poller::new(Arc::clone(&shared), settings.clone())?;
        thread::Builder::new()
            .name("kafka".to_owned())
            .spawn(move || poller.run())
            .map_err(|error| KafkaError::Thread(error.kind()))?;
        Ok(Self { shared })
    }
}

impl KafkaSettings {
    /// Checks the settings, and that this build can do what they ask for, without a connection.
    ///
    /// # Errors
    /// [`KafkaError`] names the property.
    pub fn check(&self) -> Result<(), KafkaError> {
        properties::try_out(&properties::producer(self)?, ClientKind::Producer)
    }
}

impl Drop for KafkaUplink {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::Relaxed);
    }
}

impl Uplink for KafkaUplink {
    fn publish(&mut self, id: DeliveryId, record: &Record) -> Handover {
        let mut queue = self.shared.lock();
        if queue.open.is_none() && !queue.is_held {
            count(&self.shared.stats.refused);
            return Handover::NotTaken;
        }
        if let Some(open) = queue.open.as_ref().filter(|_| queue.waiting.is_empty()) {
            match self.shared.send(open, id, record) {
                Sent::Yes => return Handover::Taken,
                Sent::Answered(receipt) => {
                    drop(queue);
                    count(&self.shared.stats.failed);
                    self.shared.inbox.post_one(receipt);
                    return Handover::Taken;
                }
                Sent::Full => {}
            }
        }
        if queue.waiting.len() >= RECORDS_MAX {
            queue.overflowed = true;
            count(&self.shared.stats.refused);
            return Handover::NotTaken;
        }
        queue.waiting.push_back((id, record.clone()));
        Handover::Taken
    }

    fn flush(&mut self) {
        // librdkafka sends by itself when records have lingered; the poller moves up what waits for room.
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, RecordQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets records through to this producer.
    fn open(&self, producer: Arc<Producer>, status: Arc<ProducerStatus>, limits: &Limits) {
        let (uplink_max, rejected_max) = (limits.of(&self.uplink_topic), limits.of(&self.rejected_topic));
        let mut queue = self.lock();
        queue.open = Some(Open { producer, status, uplink_max, rejected_max });
        queue.is_held = false;
    }

    /// Lets records wait for the next producer; nobody uses this one afterwards.
    fn hold(&self) {
        let mut queue = self.lock();
        queue.open = None;
        queue.is_held = true;
    }

    /// Lets no record through any more; nobody uses the producer afterwards.
    fn close(&self) {
        let mut queue = self.lock();
        queue.open = None;
        queue.is_held = false;
        queue.overflowed = false;
        queue.waiting = VecDeque::new();
    }

    /// Hands over what waited for room. True when records still wait.
    fn advance(&self) -> bool {
        let mut queue = self.lock();
        let RecordQueue { open: Some(open), waiting, .. } = &mut *queue else { return false };
        while let Some((id, record)) = waiting.front() {
            match self.send(open, *id, record) {
                Sent::Yes => {}
                Sent::Full => return true,
                Sent::Answered(receipt) => {
                    count(&self.stats.failed);
                    self.inbox.post_one(receipt);
                }
            }
            waiting.pop_front();
        }
        false
    }

    /// Whether records were refused for want of room that there is again; asked once per time that it is so.
    fn has_room_again(&self) -> bool {
        let mut queue = self.lock();
        let has_room = queue.overflowed && queue.waiting.len() < RECORDS_MAX / 2;
        if has_room {
            queue.overflowed = false;
            // Sessions send all of this again.
            queue.waiting = VecDeque::new();
        }
        has_room
    }

    fn send(&self, open: &Open, id: DeliveryId, record: &Record) -> Sent {
        let (topic, max) = match record.channel {
            Channel::Device | Channel::Replica => (&self.uplink_topic, open.uplink_max),
            Channel::Rejected => (&self.rejected_topic, open.rejected_max),
        };
        let failed = Sent::Answered(Receipt::Failed(id));
        let Ok(opaque) = usize::try_from(id.to_u64()) else { return failed };
        let bytes = record.address.len() + record.payload.len();
        let refused = |words: &str| {
            open.status.has_large_record.store(true, Ordering::Relaxed);
            Sent::Answered(Receipt::Refused(id, Box::new(failure::too_large(bytes, words))))
        };
        // What is larger only with its headers the broker refuses.
        if bytes > max {
            return refused(&format!("max.message.bytes of topic {topic} is {max}"));
        }
        let message = BaseRecord::with_opaque_to(topic, opaque)
            .key(record.address.as_ref())
            .payload(record.payload.as_ref())
            .timestamp(i64::try_from(record.recorded_ms).unwrap_or(i64::MAX))
            .headers(headers::traced(headers::of(&record.attributes), record.trace));
        // Counted first: the delivery may be heard before `send` returns.
        open.status.outstanding.fetch_add(1, Ordering::Relaxed);
        let Err((error, _)) = open.producer.send::<[u8], [u8]>(message) else {
            count(&self.stats.published);
            return Sent::Yes;
        };
        open.status.outstanding.fetch_sub(1, Ordering::Relaxed);
        match error {
            ClientError::MessageProduction(RDKafkaErrorCode::QueueFull) => Sent::Full,
            ClientError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge) => {
                refused("it is larger than message.max.bytes of the client")
            }
            ClientError::MessageProduction(RDKafkaErrorCode::Fatal) => {
                // The poller will close the uplink; this record goes back with the others.
                open.status.is_fatal.store(true, Ordering::Relaxed);
                failed
            }
            other => {
                failure::log(&self.stats.causes, Subject::Records, topic, &other);
                failed
            }
        }
    }
}
