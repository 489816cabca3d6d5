//! Commands from Kafka, and their outcomes back: one thread for the whole replica.
//!
//! With a hand-over the replicas share one consumer group. Whichever reads a record brings the command to its device,
//! here or, by a NATS request, wherever it is connected, and writes the outcome. The offset moves on when Kafka has the
//! outcomes of everything before it, so a command is lost with no replica and may be carried out twice after a crash.
//!
//! Without one every replica reads all partitions from their end and keeps to the devices that it holds.

mod answers;
mod consumer;
mod dispatcher;
mod in_flight;
mod inspection;
mod outgoing;
mod partitions;
mod producer;
mod reading;
mod record;
mod service;
mod settings;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

pub use answers::KafkaAnswers;
pub use settings::KafkaCommandSettings;

use self::answers::ServiceMessage;
use self::producer::OutcomeProducer;
use self::service::Service;
use super::connection::Causes;
use super::connection::properties::{ClientKind, try_out};
use super::{KafkaCommandStats, KafkaError};
use crate::protocol::downlink::DownlinkEvent;
use crate::protocol::envelope::Encoder;
use crate::protocol::id::DeviceId;
use crate::protocol::uplink::Availability;

/// How long the end may take: the last outcomes, then the group.
const FINISH_TIMEOUT: Duration = Duration::from_secs(8);

impl KafkaCommandSettings {
    /// Checks what is said of Kafka, and that this build can do it, without a connection.
    ///
    /// # Errors
    /// [`KafkaError`] names the property.
    pub fn check(&self) -> Result<(), KafkaError> {
        self.kafka.check()?;
        try_out(&consumer::config(self)?, ClientKind::Consumer)
    }
}

/// The commands from Kafka of one replica; cheap to clone.
#[derive(Clone)]
pub struct KafkaCommands {
    settings: Arc<KafkaCommandSettings>,
    answers: KafkaAnswers,
    messages: Arc<Mutex<Option<mpsc::UnboundedReceiver<ServiceMessage>>>>,
    source: watch::Sender<Availability>,
    is_stopped: Arc<AtomicBool>,
    stats: Arc<KafkaCommandStats>,
}

impl KafkaCommands {
    /// Looks at the settings; connects to nothing yet.
    ///
    /// # Errors
    /// [`KafkaError`] when the settings cannot be used.
    pub fn new(settings: KafkaCommandSettings, stats: Arc<KafkaCommandStats>) -> Result<Self, KafkaError> {
        settings.check()?;
        if let Some(hand_over) = &settings.hand_over {
            hand_over.check().map_err(KafkaError::HandOver)?;
        }
        let (sender, messages) = mpsc::unbounded_channel();
        let (source, state) = watch::channel(Availability::Starting);
        Ok(Self {
            settings: Arc::new(settings),
            answers: KafkaAnswers::new(sender, state),
            messages: Arc::new(Mutex::new(Some(messages))),
            source,
            is_stopped: Arc::default(),
            stats,
        })
    }

    /// Where the workers give the outcomes.
    pub fn answers(&self) -> KafkaAnswers {
        self.answers.clone()
    }

    /// The counters.
    pub fn stats(&self) -> &KafkaCommandStats {
        &self.stats
    }

    /// Starts the thread, once; brokers and servers that are away are waited for.
    ///
    /// `route` tells which of the `workers` holds a device. Commands for it come as events with
    /// [`crate::protocol::downlink::Recipient::Device`]; every ticket is to be answered. `encoder` makes the outcomes
    /// that no worker makes; it addresses by key. `ages` takes the age of each command that is read here, on the thread.
    ///
    /// # Errors
    /// [`KafkaError`] when librdkafka makes no client, or the system gives no thread.
    pub fn start(
        &self,
        encoder: Encoder,
        route: impl Fn(&DeviceId) -> Option<usize> + Send + 'static,
        workers: Vec<mpsc::Sender<DownlinkEvent>>,
        ages: impl Fn(Duration) + Send + 'static,
    ) -> Result<(), KafkaError> {
        let Some(messages) = self.messages().take() else { return Ok(()) };
        let config = consumer::config(&self.settings)?;
        let causes = Arc::new(Causes::default());
        let (producer, deliveries) =
            OutcomeProducer::new(&self.settings.kafka, &self.settings.reply_topic, Arc::clone(&causes))?;
        let service = Service {
            settings: (*self.settings).clone(),
            config,
            is_stopped: Arc::clone(&self.is_stopped),
            messages,
            deliveries,
            causes,
            source: self.source.clone(),
            ages: Box::new(ages),
            stats: Arc::clone(&self.stats),
        };
        thread::Builder::new()
            .name("kafka-commands".to_owned())
            .spawn(move || service.run(encoder, Box::new(route), workers, producer))
            .map(drop)
            .map_err(|error| KafkaError::Thread(error.kind()))
    }

    /// Takes no more commands; those under way go on.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.answers.send(ServiceMessage::Stop);
    }

    /// Waits until everything under way has its outcome and the offsets are committed, a few seconds at most. What is
    /// left then is read again by another replica.
    pub async fn finish(&self) {
        self.stop();
        if self.messages().is_some() {
            return;
        }
        let (sender, finished) = oneshot::channel();
        self.answers.send(ServiceMessage::Finish(sender));
        if tokio::time::timeout(FINISH_TIMEOUT, finished).await.is_err() {
            tracing::warn!("the commands from Kafka did not come to their end in time");
        }
    }

    fn messages(&self) -> std::sync::MutexGuard<'_, Option<mpsc::UnboundedReceiver<ServiceMessage>>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
