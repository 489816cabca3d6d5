//! Outcomes to Kafka, each acknowledged or given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::mpsc;

use super::outgoing::{Destination, Outgoing};
use crate::queue::kafka::connection::{Causes, Subject, log_line};
use crate::queue::kafka::producer::failure::{self, Failure};
use crate::queue::kafka::producer::limits;
use crate::queue::kafka::producer::{ProducerConfig, Watch};
use crate::queue::kafka::{KafkaError, KafkaSettings};

/// The result for an outcome that librdkafka took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Kafka has it.
    Stored,
    /// Kafka never takes it; the text is the client's.
    Unstorable(String),
    /// Not this time; the text is the client's.
    Failed(String),
}

/// Deliveries that the callbacks of the producer report, by the number of the command.
pub(super) type Deliveries = mpsc::UnboundedReceiver<(u64, Delivery)>;

/// The producer of outcomes, with a thread of its own that hears the deliveries.
pub(super) struct OutcomeProducer {
    config: ProducerConfig,
    producer: ThreadedProducer<OutcomeContext>,
    /// Those that bring what they have to its end, and take nothing more.
    retired: Vec<ThreadedProducer<OutcomeContext>>,
    reports: mpsc::UnboundedSender<(u64, Delivery)>,
    causes: Arc<Causes>,
    reply_topic: String,
    rejected_topic: String,
}

impl OutcomeProducer {
    /// Makes the producer; connects in the background.
    ///
    /// # Errors
    /// [`KafkaError`] when the settings cannot be used.
    pub(super) fn new(
        settings: &KafkaSettings,
        reply_topic: &str,
        causes: Arc<Causes>,
    ) -> Result<(Self, Deliveries), KafkaError> {
        let topics = [reply_topic, settings.rejected_topic.as_str()];
        let config = ProducerConfig::new(settings, Subject::Outcomes, &topics, Arc::clone(&causes))?;
        // Bounded by the commands in flight: each has one outcome at a time.
        let (reports, deliveries) = mpsc::unbounded_channel();
        let producer = make(&config, &reports, &causes)?;
        let (reply_topic, rejected_topic) = (reply_topic.to_owned(), settings.rejected_topic.clone());
        let own = Self { config, producer, retired: Vec::new(), reports, causes, reply_topic, rejected_topic };
        Ok((own, deliveries))
    }

    /// Its client, for questions, and the properties of clients that ask.
    pub(super) fn client(&self) -> (&rdkafka::client::Client<OutcomeContext>, &ClientConfig) {
        (self.producer.client(), self.config.base())
    }

    /// Asks for the limits of its topics, before the first outcome. Blocks.
    pub(super) fn ask_for_limits(&mut self) {
        if self.config.ask_for_limits() {
            self.renew();
        }
    }

    /// Hands an outcome over; a delivery with this number follows in any case.
    pub(super) fn send(&mut self, number: u64, outgoing: &Outgoing) {
        let topic = match outgoing.destination {
            Destination::Reply => &self.reply_topic,
            Destination::Rejected => &self.rejected_topic,
        };
        let opaque = usize::try_from(number).unwrap_or(usize::MAX);
        let mut record = BaseRecord::with_opaque_to(topic, opaque)
            .payload(outgoing.payload.as_ref())
            .headers(outgoing.headers.clone());
        if let Some(key) = &outgoing.key {
            record = record.key(key.as_ref());
        }
        if let Err((error, _)) = self.producer.send::<[u8], [u8]>(record) {
            let delivery = match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::MessageSizeTooLarge) => Delivery::Unstorable(error.to_string()),
                _ => Delivery::Failed(error.to_string()),
            };
            // Nobody listens any more at the end of the process.
            let _ended = self.reports.send((number, delivery));
        }
    }

    /// Takes another producer when this one cannot go on, or when its batches are larger than its topics take. To be called
    /// before what was given back is sent again.
    pub(super) fn renew_if_needed(&mut self) {
        self.retired.retain(|retired| retired.in_flight_count() > 0);
        let context = self.producer.context();
        if context.has_large_batch.load(Ordering::Relaxed) {
            self.config.limits.shrink(context.batch_bytes);
            let batch_bytes = self.config.limits.batch_bytes;
            tracing::warn!(
                batch_bytes,
                "a batch of outcomes was larger than its topic takes; batches are smaller from now on"
            );
            self.renew();
        } else if self.producer.client().fatal_error().is_some() {
            tracing::warn!("the producer of outcomes could not go on; another takes its place");
            self.renew();
        }
    }

    fn renew(&mut self) {
        match make(&self.config, &self.reports, &self.causes) {
            Ok(producer) => self.retired.push(std::mem::replace(&mut self.producer, producer)),
            Err(error) => tracing::error!(%error, "no Kafka producer can be made"),
        }
    }
}

fn make(
    config: &ProducerConfig,
    reports: &mpsc::UnboundedSender<(u64, Delivery)>,
    causes: &Arc<Causes>,
) -> Result<ThreadedProducer<OutcomeContext>, KafkaError> {
    config.create(OutcomeContext {
        reports: reports.clone(),
        causes: Arc::clone(causes),
        watch: Arc::clone(&config.watch),
        batch_bytes: config.limits.batch_bytes,
        has_large_batch: AtomicBool::new(false),
    })
}

/// Runs on the producer's own thread.
pub(super) struct OutcomeContext {
    reports: mpsc::UnboundedSender<(u64, Delivery)>,
    causes: Arc<Causes>,
    watch: Arc<Watch>,
    /// Bytes up to which this producer fills batches.
    batch_bytes: usize,
    /// A broker refused a batch of more than one outcome for its size.
    has_large_batch: AtomicBool,
}

impl OutcomeContext {
    fn failed(&self, error: &ClientError, message: &BorrowedMessage<'_>) -> Delivery {
        match failure::of(error, limits::batch_bytes(message), self.batch_bytes) {
            Failure::Permanent(refusal) => Delivery::Unstorable(refusal.cause().to_owned()),
            Failure::LargeBatch => {
                self.has_large_batch.store(true, Ordering::Relaxed);
                Delivery::Failed(error.to_string())
            }
            Failure::Temporary => {
                failure::log(&self.causes, Subject::Outcomes, message.topic(), error);
                Delivery::Failed(error.to_string())
            }
            Failure::Purged => Delivery::Failed(error.to_string()),
        }
    }
}

impl rdkafka::ClientContext for OutcomeContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(&self.causes, Subject::Outcomes, level, facility, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal) => tracing::warn!(reason, "the producer of outcomes cannot go on"),
            // The brokers are named one by one.
            Some(RDKafkaErrorCode::AllBrokersDown) => {}
            _ => self.causes.broker(Subject::Outcomes, reason),
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.watch.look(statistics);
    }
}

impl ProducerContext for OutcomeContext {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let number = u64::try_from(opaque).unwrap_or(u64::MAX);
        let delivery = match result {
            Ok(_) => Delivery::Stored,
            Err((error, message)) => self.failed(error, message),
        };
        // Nobody listens any more at the end of the process.
        let _ended = self.reports.send((number, delivery));
    }
}
