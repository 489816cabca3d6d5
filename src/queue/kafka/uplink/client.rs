//! The producer of records, and what librdkafka calls back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::{BaseProducer, DeliveryResult, ProducerContext};

use crate::protocol::uplink::{DeliveryId, Inbox, Receipt};
use crate::queue::count;
use crate::queue::kafka::KafkaStats;
use crate::queue::kafka::connection::{Subject, log_line};
use crate::queue::kafka::producer::Watch;
use crate::queue::kafka::producer::failure::{self, Failure};
use crate::queue::kafka::producer::limits;

pub(super) type Producer = BaseProducer<Context>;

/// The context of one producer's callbacks, which run on the thread that polls.
pub(super) struct Context {
    inbox: Arc<Inbox>,
    stats: Arc<KafkaStats>,
    status: Arc<ProducerStatus>,
    watch: Arc<Watch>,
}

/// Counters and flags that the callbacks of one producer set, for the poller and for the worker.
#[derive(Debug, Default)]
pub(super) struct ProducerStatus {
    /// Bytes up to which this producer fills batches.
    batch_bytes: usize,
    /// Records handed over and not yet reported on.
    pub(super) outstanding: AtomicI64,
    /// Records stored by this producer.
    pub(super) stored: AtomicU64,
    /// Bytes of their values.
    pub(super) stored_bytes: AtomicU64,
    /// Records that this producer gave up for now; those that are refused for good, too large or purged do not count.
    pub(super) failed: AtomicU64,
    /// librdkafka says that no broker is connected.
    pub(super) all_down: AtomicBool,
    /// The producer cannot go on.
    pub(super) is_fatal: AtomicBool,
    /// A broker refused a batch of more than one record for its size.
    pub(super) has_large_batch: AtomicBool,
    /// A record was too large for its topic: perhaps the limit has changed.
    pub(super) has_large_record: AtomicBool,
}

impl ProducerStatus {
    /// The status of a new producer, which fills batches up to `batch_bytes`.
    pub(super) fn new(batch_bytes: usize) -> Self {
        Self { batch_bytes, ..Self::default() }
    }

    /// Bytes up to which its producer fills batches.
    pub(super) fn batch_bytes(&self) -> usize {
        self.batch_bytes
    }
}

impl Context {
    pub(super) fn new(
        inbox: Arc<Inbox>,
        stats: Arc<KafkaStats>,
        status: Arc<ProducerStatus>,
        watch: Arc<Watch>,
    ) -> Self {
        Self { inbox, stats, status, watch }
    }

    fn failed(&self, id: DeliveryId, error: &ClientError, message: &BorrowedMessage<'_>) {
        match failure::of(error, limits::batch_bytes(message), self.status.batch_bytes) {
            Failure::Permanent(refusal) => {
                count(&self.stats.failed);
                self.status.has_large_record.store(true, Ordering::Relaxed);
                self.inbox.post_one(Receipt::Refused(id, Box::new(refusal)));
            }
            // No receipt: the poller replaces the producer and begins an epoch, in which the session sends the record again with
            // everything else that it holds.
            Failure::LargeBatch => {
                count(&self.stats.failed);
                self.status.has_large_batch.store(true, Ordering::Relaxed);
            }
            Failure::Temporary => {
                count(&self.stats.failed);
                count(&self.status.failed);
                failure::log(&self.stats.causes, Subject::Records, message.topic(), error);
                self.inbox.post_one(Receipt::Failed(id));
            }
            Failure::Purged => {
                count(&self.stats.failed);
                self.inbox.post_one(Receipt::Failed(id));
            }
        }
    }
}

impl rdkafka::ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(&self.stats.causes, Subject::Records, level, facility, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => self.status.all_down.store(true, Ordering::Relaxed),
            Some(RDKafkaErrorCode::Fatal) => {
                tracing::warn!(reason, "the Kafka producer cannot go on; another takes its place");
                self.status.is_fatal.store(true, Ordering::Relaxed);
            }
            _ => self.stats.causes.broker(Subject::Records, reason),
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.watch.look(statistics);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let id = DeliveryId::from_u64(u64::try_from(opaque).unwrap_or_default());
        self.status.outstanding.fetch_sub(1, Ordering::Relaxed);
        // The inbox wakes its worker for the first receipt only; the rest of the batch is there before it has woken.
        match result {
            Ok(message) => {
                count(&self.status.stored);
                self.status.stored_bytes.fetch_add(message.payload_len() as u64, Ordering::Relaxed);
                count(&self.stats.stored);
                self.inbox.post_one(Receipt::Stored(id));
            }
            Err((error, message)) => self.failed(id, error, message),
        }
    }
}
