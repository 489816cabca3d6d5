//! What is in the topics, partition by partition in stored order.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{Consumer, ConsumerContext, StreamConsumer};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use super::KafkaSettings;
use crate::queue::{Place, ReadError, ReadFrom, Stored};

/// How long one question to the brokers may take.
const QUESTION: Duration = Duration::from_secs(10);

/// Reads a topic without a consumer group, so that it takes nothing away from others.
pub struct KafkaReader {
    consumer: StreamConsumer<Quiet>,
    /// Partitions that are not read to their end, and that end; `None` when the reader has no end.
    open: Option<HashMap<i32, i64>>,
}

impl std::fmt::Debug for KafkaReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaReader").field("open", &self.open).finish_non_exhaustive()
    }
}

impl KafkaReader {
    /// Opens a topic. Blocks for as long as the brokers take to tell about it.
    ///
    /// # Errors
    /// [`ReadError`] when the settings are wrong, no broker answers or the topic does not exist.
    pub fn open(settings: &KafkaSettings, topic: &str, from: ReadFrom) -> Result<Self, ReadError> {
        let consumer = consumer(settings)?;
        let metadata = consumer.fetch_metadata(None, QUESTION).map_err(unreachable)?;
        let known = metadata.topics().iter().find(|known| known.name() == topic);
        let Some(known) = known else { return Err(ReadError::Missing(format!("topic {topic}"))) };
        let mut assignment = TopicPartitionList::new();
        let mut open = HashMap::new();
        for partition in known.partitions() {
            let (low, high) = consumer.fetch_watermarks(topic, partition.id(), QUESTION).map_err(unreachable)?;
            let offset = match from {
                ReadFrom::Beginning => low,
                ReadFrom::Now => high,
            };
            if low < high {
                open.insert(partition.id(), high);
            }
            assignment
                .add_partition_offset(topic, partition.id(), Offset::Offset(offset))
                .map_err(|error| ReadError::Settings(error.to_string()))?;
        }
        consumer.assign(&assignment).map_err(|error| ReadError::Settings(error.to_string()))?;
        Ok(Self { consumer, open: (from == ReadFrom::Beginning).then_some(open) })
    }

    /// The next envelope; `None` at the end.
    ///
    /// # Errors
    /// [`ReadError::Lost`] when the client gives up.
    pub async fn next(&mut self) -> Result<Option<Stored>, ReadError> {
        loop {
            if self.open.as_ref().is_some_and(HashMap::is_empty) {
                return Ok(None);
            }
            match self.consumer.recv().await {
                Ok(message) => {
                    let stored = stored(&message);
                    let (partition, offset) = (message.partition(), message.offset());
                    if let Some(open) = &mut self.open {
                        let Some(end) = open.get(&partition).copied() else { continue };
                        if offset + 1 >= end {
                            open.remove(&partition);
                        }
                        if offset >= end {
                            continue;
                        }
                    }
                    return Ok(Some(stored));
                }
                // Compacted or aborted records may leave the end without a record.
                Err(ClientError::PartitionEOF(partition)) => {
                    if let Some(open) = &mut self.open {
                        open.remove(&partition);
                    }
                }
                Err(error) if is_passing(&error) => tracing::debug!(%error, "Kafka reader trouble"),
                Err(error) => return Err(ReadError::Lost(error.to_string())),
            }
        }
    }
}

fn consumer(settings: &KafkaSettings) -> Result<StreamConsumer<Quiet>, ReadError> {
    let mut config = ClientConfig::new();
    for (name, value) in &settings.properties {
        config.set(name, value);
    }
    config
        .set("bootstrap.servers", &settings.brokers)
        .set("client.id", &settings.client_id)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        // The client wants a name; without subscription and commits no group comes to be.
        .set("group.id", "jetlinks-bridge-reader")
        .set("auto.offset.reset", "error")
        .set_log_level(RDKafkaLogLevel::Error);
    StreamConsumer::from_config_and_context(&config, Quiet).map_err(|error| ReadError::Settings(error.to_string()))
}

fn unreachable(error: ClientError) -> ReadError {
    ReadError::Unreachable(error.to_string())
}

/// Whether the client tries again by itself.
fn is_passing(error: &ClientError) -> bool {
    use rdkafka::error::RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut, Resolve};
    let code = error.rdkafka_error_code();
    matches!(code, Some(AllBrokersDown | BrokerTransportFailure | OperationTimedOut | Resolve))
}

fn stored(message: &BorrowedMessage<'_>) -> Stored {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut content_type = None;
    let mut attributes = Vec::new();
    for header in message.headers().into_iter().flat_map(Headers::iter) {
        let value = text(header.value.unwrap_or_default());
        if let Some(name) = header.key.strip_prefix("ce_") {
            attributes.push((name.to_owned(), value));
        } else if header.key == "content-type" {
            content_type = Some(value);
        }
    }
    Stored {
        place: Place::Partition { partition: message.partition(), offset: message.offset() },
        address: message.key().map(text).unwrap_or_default(),
        payload: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        content_type,
        attributes,
    }
}

/// Keeps librdkafka's log to debug: the caller hears of trouble by errors.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: ClientError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka reader trouble");
    }
}

impl ConsumerContext for Quiet {}
