//! Calls devices through the topics of commands and outcomes.

use std::time::Duration;

use rdkafka::config::{FromClientConfig, RDKafkaLogLevel};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde::Deserialize;
use tokio::time::Instant;

use super::connection::properties;
use super::{KafkaReader, KafkaSettings};
use crate::queue::{Answer, CallError, ReadError, ReadFrom, Stored};

/// How long the brokers may take to store the command.
const DELIVERY: Duration = Duration::from_secs(10);

/// Writes commands and reads their outcomes.
pub struct KafkaCaller {
    producer: FutureProducer,
    outcomes: KafkaReader,
    command_topic: String,
}

impl KafkaCaller {
    /// Opens both topics; outcomes are read from this moment on. Blocks for as long as the brokers take to tell about
    /// them.
    ///
    /// # Errors
    /// [`CallError`] when the settings are wrong, no broker answers or the topic of outcomes does not exist.
    pub fn open(settings: &KafkaSettings, command_topic: &str, reply_topic: &str) -> Result<Self, CallError> {
        let outcomes = KafkaReader::open(settings, reply_topic, ReadFrom::Now)?;
        let settings = KafkaSettings { message_timeout: DELIVERY, ..settings.clone() };
        let mut config = properties::producer(&settings).map_err(|error| CallError::Settings(error.to_string()))?;
        config.set_log_level(RDKafkaLogLevel::Error);
        let producer = FutureProducer::from_config(&config).map_err(|error| CallError::Settings(error.to_string()))?;
        Ok(Self { producer, outcomes, command_topic: command_topic.to_owned() })
    }

    /// Writes a command under the id of the connected device and waits for the outcome with that correlation id, which
    /// the command must carry in its own headers too.
    ///
    /// # Errors
    /// [`CallError`] when there is none.
    pub async fn call(
        &mut self,
        device: &str,
        command: &str,
        correlation_id: &str,
        timeout: Duration,
    ) -> Result<Answer, CallError> {
        let deadline = Instant::now() + timeout;
        let header = Header { key: "correlation-id", value: Some(correlation_id) };
        let headers = OwnedHeaders::new_with_capacity(1).insert(header);
        let record = FutureRecord::to(&self.command_topic).key(device).payload(command).headers(headers);
        self.producer
            .send(record, DELIVERY)
            .await
            .map_err(|(error, _)| CallError::Unreachable(format!("topic {}: {error}", self.command_topic)))?;
        loop {
            let next = tokio::time::timeout_at(deadline, self.outcomes.next()).await;
            let stored = match next.map_err(|_| CallError::TimedOut)? {
                Ok(Some(stored)) => stored,
                Ok(None) => return Err(CallError::Lost("the topic of outcomes has an end".to_owned())),
                // The deadline tells whether this outcome was meant.
                Err(error @ (ReadError::Unreadable(_) | ReadError::Waiting(_))) => {
                    tracing::warn!(%error, "outcomes cannot be read");
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if correlation_of(&stored).as_deref() == Some(correlation_id) {
                return Ok(Answer { payload: stored.payload, attributes: stored.attributes, failure: None });
            }
        }
    }
}

#[derive(Deserialize)]
struct Envelope {
    correlationid: Option<String>,
}

/// The correlation id of an outcome, in either mode.
fn correlation_of(stored: &Stored) -> Option<String> {
    match stored.attributes.iter().find(|(name, _)| name == "correlationid") {
        Some((_, id)) => Some(id.clone()),
        None => serde_json::from_slice::<Envelope>(&stored.payload).ok()?.correlationid,
    }
}
