//! Outcomes to Kafka, each acknowledged or given back.

use std::sync::Mutex;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::mpsc;

use super::outgoing::{Destination, Outgoing};
use crate::queue::Throttle;
use crate::queue::kafka::client::{is_unstorable, log_line};
use crate::queue::kafka::{KafkaError, KafkaSettings, properties};

/// What became of an outcome that librdkafka took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Kafka has it.
    Stored,
    /// Kafka never takes it; the text is the client's.
    Unstorable(String),
    /// Not this time; the text is the client's.
    Failed(String),
}

/// What the callbacks of the producer say, by the number of the command.
pub(super) type Deliveries = mpsc::UnboundedReceiver<(u64, Delivery)>;

/// The producer of outcomes, with a thread of its own that hears the deliveries.
pub(super) struct OutcomeProducer {
    config: ClientConfig,
    producer: ThreadedProducer<OutcomeContext>,
    reports: mpsc::UnboundedSender<(u64, Delivery)>,
    reply_topic: String,
    rejected_topic: String,
}

impl OutcomeProducer {
    /// Makes the producer; connects in the background.
    ///
    /// # Errors
    /// [`KafkaError`] when the settings cannot be used.
    pub(super) fn new(settings: &KafkaSettings, reply_topic: &str) -> Result<(Self, Deliveries), KafkaError> {
        let config = properties::producer(settings)?;
        // Bounded by the commands under way: each has one outcome at a time.
        let (reports, deliveries) = mpsc::unbounded_channel();
        let producer = make(&config, &reports)?;
        let (reply_topic, rejected_topic) = (reply_topic.to_owned(), settings.rejected_topic.clone());
        Ok((Self { config, producer, reports, reply_topic, rejected_topic }, deliveries))
    }

    /// Its client, for questions, and the properties that it was made of.
    pub(super) fn client(&self) -> (&rdkafka::client::Client<OutcomeContext>, &ClientConfig) {
        (self.producer.client(), &self.config)
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
            report(&self.reports, number, &error);
        }
    }

    /// Takes another producer when this one cannot go on. What it held is given back.
    pub(super) fn renew_if_broken(&mut self) {
        if self.producer.client().fatal_error().is_none() {
            return;
        }
        match make(&self.config, &self.reports) {
            Ok(producer) => {
                tracing::warn!("the producer of outcomes could not go on; another takes its place");
                self.producer = producer;
            }
            Err(error) => tracing::error!(%error, "no Kafka producer can be made"),
        }
    }
}

fn make(
    config: &ClientConfig,
    reports: &mpsc::UnboundedSender<(u64, Delivery)>,
) -> Result<ThreadedProducer<OutcomeContext>, KafkaError> {
    let log = Mutex::new(Throttle::new(Duration::from_secs(30)));
    let context = OutcomeContext { reports: reports.clone(), log };
    ThreadedProducer::from_config_and_context(config, context).map_err(|error| KafkaError::Client(error.to_string()))
}

fn report(reports: &mpsc::UnboundedSender<(u64, Delivery)>, number: u64, error: &ClientError) {
    let delivery = match error {
        error if is_unstorable(error) => Delivery::Unstorable(error.to_string()),
        error => Delivery::Failed(error.to_string()),
    };
    // Nobody listens any more at the end of the process.
    let _ended = reports.send((number, delivery));
}

/// Runs on the producer's own thread.
pub(super) struct OutcomeContext {
    reports: mpsc::UnboundedSender<(u64, Delivery)>,
    log: Mutex<Throttle>,
}

impl rdkafka::ClientContext for OutcomeContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(&self.log, level, facility, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal) => tracing::warn!(reason, "the producer of outcomes cannot go on"),
            _ => tracing::debug!(%error, reason, "Kafka connection trouble"),
        }
    }
}

impl ProducerContext for OutcomeContext {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let number = u64::try_from(opaque).unwrap_or(u64::MAX);
        match result {
            Ok(_) => {
                let _ended = self.reports.send((number, Delivery::Stored));
            }
            Err((error, _)) => report(&self.reports, number, error),
        }
    }
}
