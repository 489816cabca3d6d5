//! The reader of a topic, partition by partition in stored order.

mod peek;
pub(super) mod unreadable;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::FutureExt;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{Consumer, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::metadata::MetadataTopic;
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use self::unreadable::{Unreadable, is_about_a_batch};
use super::connection::{Causes, cause_of, is_about_a_connection, properties};
use super::{KafkaError, KafkaSettings};
use crate::queue::{Position, ReadError, ReadFrom, Stored};

/// How long one request to the brokers may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Time without a record after which a partition with more of them has a batch that cannot be read: of some batches the client
/// does not say so.
const SILENCE: Duration = Duration::from_secs(10);

/// How often a batch that could not be read may be readable when it is searched for.
const EMPTY_SEARCHES_MAX: usize = 3;

/// Reads a topic without a consumer group, so that it takes nothing away from others.
pub struct KafkaReader {
    config: ClientConfig,
    topic: String,
    consumer: StreamConsumer<ReaderContext>,
    /// The next offset of each partition.
    positions: HashMap<i32, i64>,
    /// Found, and not told yet.
    unreadable: Vec<Unreadable>,
    /// Searches in a row that found nothing.
    empty_searches: usize,
    /// Partitions that are not read to their end, and that end; `None` when the reader has no end.
    open: Option<HashMap<i32, i64>>,
    /// Whether nothing is stored before the first offsets.
    is_whole: bool,
}

impl KafkaReader {
    /// Opens a topic. Blocks for as long as the brokers take to tell about it.
    ///
    /// # Errors
    /// [`ReadError`] when the settings are wrong, no broker answers or the topic does not exist.
    pub fn open(settings: &KafkaSettings, topic: &str, from: ReadFrom) -> Result<Self, ReadError> {
        let config = config(settings).map_err(|error| ReadError::Settings(error.to_string()))?;
        let consumer: StreamConsumer<ReaderContext> =
            StreamConsumer::from_config_and_context(&config, ReaderContext::default())
                .map_err(|error| ReadError::Settings(error.to_string()))?;
        let unreachable = |error: ClientError| {
            hear(&consumer);
            ReadError::Unreachable(consumer.context().last_cause().unwrap_or_else(|| error.to_string()))
        };
        let metadata = consumer.fetch_metadata(None, REQUEST_TIMEOUT).map_err(unreachable)?;
        let known = metadata.topics().iter().find(|known| known.name() == topic);
        let Some(known) = known else { return Err(ReadError::Missing(format!("topic {topic}"))) };
        let mut assignment = TopicPartitionList::new();
        let starts = match from {
            ReadFrom::Time(time) => offsets_at(&consumer, known, time).map_err(unreachable)?,
            ReadFrom::Beginning | ReadFrom::Last(_) | ReadFrom::Now => HashMap::new(),
        };
        let (mut open, mut positions, mut is_whole) = (HashMap::new(), HashMap::new(), true);
        for partition in known.partitions() {
            let (low, high) = consumer.fetch_watermarks(topic, partition.id(), REQUEST_TIMEOUT).map_err(unreachable)?;
            let offset = match from {
                ReadFrom::Beginning => low,
                ReadFrom::Time(_) => starts.get(&partition.id()).map_or(high, |&start| start.max(low).min(high)),
                ReadFrom::Last(count) => high.saturating_sub(i64::try_from(count).unwrap_or(i64::MAX)).max(low),
                ReadFrom::Now => high,
            };
            is_whole &= offset <= low;
            if offset < high {
                open.insert(partition.id(), high);
            }
            positions.insert(partition.id(), offset);
            assignment
                .add_partition_offset(topic, partition.id(), Offset::Offset(offset))
                .map_err(|error| ReadError::Settings(error.to_string()))?;
        }
        consumer.assign(&assignment).map_err(|error| ReadError::Settings(error.to_string()))?;
        let open = (from != ReadFrom::Now).then_some(open);
        Ok(Self {
            config,
            topic: topic.to_owned(),
            consumer,
            positions,
            unreadable: Vec::new(),
            empty_searches: 0,
            open,
            is_whole,
        })
    }

    /// Whether nothing is stored before the first envelopes that it reads.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Whether the reader will come to that place of its topic.
    pub fn is_ahead_of(&self, place: Position) -> bool {
        let Position::Partition { partition, offset } = place else { return false };
        self.positions.get(&partition).is_some_and(|&next| offset >= next)
    }

    /// The next envelope; `None` at the end.
    ///
    /// # Errors
    /// [`ReadError::Lost`] when the client gives up. [`ReadError::Waiting`] once for each cause why nothing comes, and
    /// [`ReadError::Unreadable`] once for each part that it cannot read: then it goes on.
    pub async fn next(&mut self) -> Result<Option<Stored>, ReadError> {
        loop {
            if let Some(unreadable) = self.unreadable.pop() {
                return Err(self.pass(&unreadable));
            }
            if self.open.as_ref().is_some_and(HashMap::is_empty) {
                return Ok(None);
            }
            let next = match &self.open {
                // All of it is there, so silence means something.
                Some(_) => tokio::time::timeout(SILENCE, self.consumer.recv()).await,
                None => Ok(self.consumer.recv().await),
            };
            let Ok(next) = next else {
                self.find_unreadable().await?;
                continue;
            };
            match next {
                Ok(message) => {
                    let stored = stored(&message);
                    let (partition, offset) = (message.partition(), message.offset());
                    drop(message);
                    if self.advance(partition, offset + 1) {
                        return Ok(Some(stored));
                    }
                }
                // Compacted or aborted records may leave the end without a record.
                Err(ClientError::PartitionEOF(partition)) => {
                    if let Some(open) = &mut self.open {
                        open.remove(&partition);
                    }
                }
                Err(error) if is_about_a_batch(&error) && self.empty_searches < EMPTY_SEARCHES_MAX => {
                    self.find_unreadable().await?
                }
                Err(error) if is_passing(&error) => {
                    if let Some(cause) = self.consumer.context().take_news() {
                        return Err(ReadError::Waiting(cause));
                    }
                }
                Err(error) => return Err(ReadError::Lost(format!("topic {}: {error}", self.topic))),
            }
        }
    }

    /// Notes how far a partition was read; whether the record before that is within the end.
    fn advance(&mut self, partition: i32, next: i64) -> bool {
        self.positions.insert(partition, next);
        let Some(open) = &mut self.open else { return true };
        let Some(end) = open.get(&partition).copied() else { return false };
        if next >= end {
            open.remove(&partition);
        }
        next <= end
    }

    async fn find_unreadable(&mut self) -> Result<(), ReadError> {
        let (config, topic) = (self.config.clone(), self.topic.clone());
        let is_open = |partition: &i32| self.open.as_ref().is_none_or(|open| open.contains_key(partition));
        let positions: Vec<(i32, i64)> = self
            .positions
            .iter()
            .filter(|(partition, _)| is_open(partition))
            .map(|(p, offset)| (*p, *offset))
            .collect();
        let found = tokio::task::spawn_blocking(move || unreadable::find(&config, &topic, &positions)).await;
        let lost = |error: &dyn fmt::Display| ReadError::Lost(format!("topic {}: {error}", self.topic));
        self.unreadable = found.map_err(|error| lost(&error))?.map_err(|error| lost(&error))?;
        self.empty_searches = if self.unreadable.is_empty() { self.empty_searches + 1 } else { 0 };
        Ok(())
    }

    /// Goes on behind what cannot be read.
    fn pass(&mut self, unreadable: &Unreadable) -> ReadError {
        self.advance(unreadable.partition, unreadable.next);
        match self.consumer.seek(&self.topic, unreadable.partition, Offset::Offset(unreadable.next), REQUEST_TIMEOUT) {
            Ok(()) => ReadError::Unreadable(format!("topic {}: {unreadable}", self.topic)),
            Err(error) => {
                ReadError::Lost(format!("topic {}: {unreadable}, and reading does not go on: {error}", self.topic))
            }
        }
    }
}

/// The properties of a reader, which must not disturb anybody: without subscription and commits no group comes to be.
///
/// # Errors
/// [`KafkaError`] names the property.
pub(super) fn config(settings: &KafkaSettings) -> Result<ClientConfig, KafkaError> {
    let mut config = properties::consumer(settings, "jetlinks-bridge-reader", &[])?;
    config.set("enable.partition.eof", "true");
    // No member of the bridge's own group.
    config.remove("group.instance.id");
    Ok(config)
}

/// Offset of the first record of each partition whose timestamp is that time or later; none where there is no such record.
fn offsets_at(
    consumer: &StreamConsumer<ReaderContext>,
    topic: &MetadataTopic,
    time: SystemTime,
) -> Result<HashMap<i32, i64>, ClientError> {
    let since_1970 = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let timestamp = Offset::Offset(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX));
    let mut wanted = TopicPartitionList::new();
    for partition in topic.partitions() {
        wanted.add_partition_offset(topic.name(), partition.id(), timestamp)?;
    }
    let found = consumer.offsets_for_times(wanted, REQUEST_TIMEOUT)?;
    let mut offsets = HashMap::new();
    for element in found.elements() {
        element.error()?;
        if let Offset::Offset(offset) = element.offset() {
            offsets.insert(element.partition(), offset);
        }
    }
    Ok(offsets)
}

/// Lets the client say what it has to say. One look hears one word, and does not tell whether there are more.
pub(super) fn hear(consumer: &StreamConsumer<ReaderContext>) {
    // It has a few words for each broker.
    for _ in 0..64 {
        let _news = consumer.recv().now_or_never();
    }
}

/// Whether the client tries again by itself.
fn is_passing(error: &ClientError) -> bool {
    let code = error.rdkafka_error_code();
    code.is_some_and(|code| code == RDKafkaErrorCode::AllBrokersDown || is_about_a_connection(code))
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
        place: Position::Partition { partition: message.partition(), offset: message.offset() },
        address: message.key().map(text).unwrap_or_default(),
        payload: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        content_type,
        attributes,
        stored_ms: message.timestamp().to_millis().unwrap_or_default(),
    }
}

/// Keeps what librdkafka says for the caller.
#[derive(Default)]
pub(super) struct ReaderContext {
    causes: Causes,
    news: Mutex<Option<String>>,
}

impl ReaderContext {
    fn note(&self, text: &str) {
        let cause = cause_of(text);
        if self.causes.is_news(&cause, Instant::now()) {
            *self.news.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause);
        }
    }

    /// The cause that was heard last.
    pub(super) fn last_cause(&self) -> Option<String> {
        self.causes.last()
    }

    /// The last cause, once.
    fn take_news(&self) -> Option<String> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for ReaderContext {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == "FAIL" {
            self.note(message);
        }
        tracing::debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: ClientError, reason: &str) {
        if is_passing(&error) && error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            self.note(reason);
        }
        tracing::debug!(%error, reason, "Kafka reader trouble");
    }

    fn stats_raw(&self, _statistics: &[u8]) {}
}

impl ConsumerContext for ReaderContext {}
