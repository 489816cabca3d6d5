//! The producer of records, and what librdkafka calls back.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, DeliveryResult, ProducerContext};

use super::stats::count;
use super::{KafkaError, KafkaStats};
use crate::protocol::uplink::{Inbox, Receipt, Token};
use crate::queue::Throttle;

pub(super) type Producer = BaseProducer<Context>;

/// Makes the producer.
///
/// # Errors
/// [`KafkaError::Client`] where librdkafka finds a contradiction or a file that it cannot use.
pub(super) fn producer(config: &ClientConfig, context: Context) -> Result<Producer, KafkaError> {
    Producer::from_config_and_context(config, context).map_err(|error| KafkaError::Client(error.to_string()))
}

/// What the callbacks of one producer note; they run on the thread that polls.
pub(super) struct Context {
    inbox: Arc<Inbox>,
    stats: Arc<KafkaStats>,
    notes: Arc<Notes>,
}

/// Read by the poller and by the worker.
#[derive(Debug)]
pub(super) struct Notes {
    /// Records handed over and not yet reported on.
    pub(super) outstanding: AtomicI64,
    /// Records stored by this producer.
    pub(super) stored: AtomicU64,
    /// Records given back by this producer, but for those that no producer could get through.
    pub(super) failed: AtomicU64,
    /// librdkafka says that no broker is connected.
    pub(super) all_down: AtomicBool,
    /// The producer cannot go on.
    pub(super) is_fatal: AtomicBool,
    /// Why the last connection was not made or was lost, in the words of librdkafka.
    cause: Mutex<Option<String>>,
    complaints: Mutex<Throttle>,
    log: Mutex<Throttle>,
}

impl Default for Notes {
    fn default() -> Self {
        let throttle = || Mutex::new(Throttle::new(Duration::from_secs(30)));
        Self {
            outstanding: AtomicI64::new(0),
            stored: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            all_down: AtomicBool::new(false),
            is_fatal: AtomicBool::new(false),
            cause: Mutex::default(),
            complaints: throttle(),
            log: throttle(),
        }
    }
}

impl Notes {
    /// Why the last connection was not made or was lost.
    pub(super) fn cause(&self) -> Option<String> {
        self.cause.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_cause(&self, reason: &str) {
        // How long the attempt took and how often it was made would make each one another cause.
        let cause = reason.split(" (after ").next().unwrap_or(reason).to_owned();
        *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause);
    }

    /// Logs that records come back, now and then.
    pub(super) fn complain(&self, error: &ClientError) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(suppressed) = complaints.pass(Instant::now()) {
            tracing::error!(%error, suppressed, "Kafka does not take records");
        }
    }
}

impl Context {
    pub(super) fn new(inbox: Arc<Inbox>, stats: Arc<KafkaStats>, notes: Arc<Notes>) -> Self {
        Self { inbox, stats, notes }
    }
}

impl rdkafka::ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(&self.notes.log, level, facility, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => self.notes.all_down.store(true, Ordering::Relaxed),
            Some(RDKafkaErrorCode::Fatal) => {
                tracing::warn!(reason, "the Kafka producer cannot go on; another takes its place");
                self.notes.is_fatal.store(true, Ordering::Relaxed);
            }
            _ => {
                tracing::debug!(%error, reason, "Kafka connection trouble");
                self.notes.note_cause(reason);
            }
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let token = Token::from_u64(u64::try_from(opaque).unwrap_or_default());
        self.notes.outstanding.fetch_sub(1, Ordering::Relaxed);
        // The inbox wakes its worker for the first receipt only; the rest of the batch is there before it has woken.
        match result {
            Ok(_) => {
                count(&self.notes.stored);
                count(&self.stats.stored);
                self.inbox.post_one(Receipt::Stored(token));
            }
            Err((error, _)) => {
                count(&self.stats.failed);
                if !is_unstorable(error) {
                    count(&self.notes.failed);
                }
                if !is_own_purge(error) {
                    self.notes.complain(error);
                }
                self.inbox.post_one(Receipt::Failed(token));
            }
        }
    }
}

/// Logs what librdkafka says. It repeats itself at every attempt to connect; what matters is also said by those who
/// listen to it.
pub(super) fn log_line(throttle: &Mutex<Throttle>, level: RDKafkaLogLevel, facility: &str, message: &str) {
    let is_quiet = matches!(level, RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug);
    // Producers and consumers share their properties, and each is told of those that are the other's.
    if is_quiet || facility == "CONFWARN" {
        tracing::debug!(facility, message, "librdkafka");
        return;
    }
    let mut throttle = throttle.lock().unwrap_or_else(PoisonError::into_inner);
    match throttle.pass(Instant::now()) {
        Some(suppressed) => tracing::warn!(facility, message, suppressed, "librdkafka"),
        None => tracing::debug!(facility, message, "librdkafka"),
    }
}

/// Whether it is the record that the broker does not take, and not records in general.
pub(super) fn is_unstorable(error: &ClientError) -> bool {
    use RDKafkaErrorCode::{
        InvalidMessageSize, InvalidRecord, InvalidTimestamp, MessageBatchTooLarge, MessageSizeTooLarge,
    };
    matches!(
        error.rdkafka_error_code(),
        Some(MessageSizeTooLarge | MessageBatchTooLarge | InvalidMessageSize | InvalidRecord | InvalidTimestamp)
    )
}

/// Whether the record came back because its producer was given up, which is said elsewhere.
fn is_own_purge(error: &ClientError) -> bool {
    matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight))
}
