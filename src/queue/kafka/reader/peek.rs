//! One look at a partition, with a client of its own.
#![expect(unsafe_code, reason = "the crate does not tell where a consumer's error is")]

use std::collections::HashMap;
use std::ffi::CStr;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use rdkafka::bindings as librdkafka;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde::Deserialize;

use super::ReaderContext;
use super::unreadable::is_batch_code;

/// How long reading the contents at one offset may take.
const PEEK_TIMEOUT: Duration = Duration::from_secs(10);

/// Failed attempts to read a batch after which it counts as unreadable. The client makes one each half second, and none while a
/// broker is slow.
const FAILURES: u64 = 3;

/// The contents of a partition at an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Peeked {
    /// A record, at this offset or behind it.
    Record,
    /// The end of the partition.
    End,
    /// A batch that cannot be read.
    Unreadable {
        /// The offset with which the batch begins; -1 where nobody knows.
        base: i64,
        /// The client's words.
        cause: String,
    },
}

/// Looks with a consumer without a group. Each look takes a new one: of an older one there might still be something on its
/// way.
pub(super) struct Peek {
    config: ClientConfig,
    topic: String,
}

impl Peek {
    /// `config` is that of a reader.
    pub(super) fn new(config: &ClientConfig, topic: &str) -> Self {
        let mut config = config.clone();
        config.set("statistics.interval.ms", "500");
        Self { config, topic: topic.to_owned() }
    }

    /// Looks at one offset.
    ///
    /// # Errors
    /// The client's, where the brokers do not answer.
    pub(super) fn at(&self, partition: i32, offset: i64) -> Result<Peeked, ClientError> {
        let consumer = BaseConsumer::from_config_and_context(&self.config, ReaderContext::default())?;
        let mut assignment = TopicPartitionList::with_capacity(1);
        assignment.add_partition_offset(&self.topic, partition, Offset::Offset(offset))?;
        consumer.assign(&assignment)?;
        let deadline = Instant::now() + PEEK_TIMEOUT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ClientError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut));
            }
            match next(&consumer, left) {
                Some(Event::Record) => return Ok(Peeked::Record),
                Some(Event::Failure { code: RDKafkaErrorCode::PartitionEOF, .. }) => return Ok(Peeked::End),
                // Behind the end; or the beginning has moved on, and there is no such offset any more.
                Some(Event::Failure { code: RDKafkaErrorCode::AutoOffsetReset, .. }) => return Ok(Peeked::End),
                Some(Event::Failure { code, base, cause }) if is_batch_code(code) => {
                    // Of these the client only knows where it stands.
                    let is_known =
                        !matches!(code, RDKafkaErrorCode::InvalidMessage | RDKafkaErrorCode::MessageSizeTooLarge);
                    return Ok(Peeked::Unreadable { base: if is_known { base } else { -1 }, cause });
                }
                // Of records that are none the client says nothing else.
                Some(Event::Statistics { partial }) if partial >= FAILURES => {
                    return Ok(Peeked::Unreadable { base: -1, cause: "what is in it is no record".to_owned() });
                }
                Some(Event::Failure { .. } | Event::Statistics { .. } | Event::Other) | None => {}
            }
        }
    }
}

/// An event of a consumer about a partition.
enum Event {
    Record,
    /// An error, with the offset that it is about.
    Failure {
        code: RDKafkaErrorCode,
        base: i64,
        cause: String,
    },
    /// Statistics of the client: `partial` parts of answers of brokers could not be read.
    Statistics {
        partial: u64,
    },
    /// Something about no partition.
    Other,
}

/// The consumer's next event. The crate itself would give of an error no more than its code.
fn next(consumer: &BaseConsumer<ReaderContext>, timeout: Duration) -> Option<Event> {
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client lives for as long as `consumer` does. The queue is a reference of our own and is given back; the
    // event is ours (checked for null), is used before it is destroyed, and is destroyed once.
    unsafe {
        let queue = librdkafka::rd_kafka_queue_get_consumer(consumer.client().native_ptr());
        if queue.is_null() {
            return None;
        }
        let event = NonNull::new(librdkafka::rd_kafka_queue_poll(queue, timeout_ms));
        librdkafka::rd_kafka_queue_destroy(queue);
        let event = event?;
        let read = read(event);
        librdkafka::rd_kafka_event_destroy(event.as_ptr());
        Some(read)
    }
}

/// # Safety
/// The event is a live one that nobody else uses.
unsafe fn read(event: NonNull<librdkafka::rd_kafka_event_t>) -> Event {
    let event = event.as_ptr();
    // SAFETY: the caller's promise. The container of the partition is a new one (checked for null) that is read before it is
    // destroyed, once; the text is read before the event is destroyed.
    unsafe {
        match librdkafka::rd_kafka_event_type(event) {
            librdkafka::RD_KAFKA_EVENT_FETCH => Event::Record,
            librdkafka::RD_KAFKA_EVENT_ERROR => {
                let place = librdkafka::rd_kafka_event_topic_partition(event);
                if place.is_null() {
                    return Event::Other;
                }
                let base = (*place).offset;
                librdkafka::rd_kafka_topic_partition_destroy(place);
                let text = librdkafka::rd_kafka_event_error_string(event);
                let cause = match text.is_null() {
                    true => String::new(),
                    false => CStr::from_ptr(text).to_string_lossy().into_owned(),
                };
                Event::Failure { code: librdkafka::rd_kafka_event_error(event).into(), base, cause }
            }
            librdkafka::RD_KAFKA_EVENT_STATS => {
                let text = librdkafka::rd_kafka_event_stats(event);
                match text.is_null() {
                    true => Event::Other,
                    false => Event::Statistics { partial: partial(CStr::from_ptr(text).to_bytes()) },
                }
            }
            _ => Event::Other,
        }
    }
}

fn partial(statistics: &[u8]) -> u64 {
    let read: Statistics = serde_json::from_slice(statistics).unwrap_or_default();
    read.brokers.values().map(|broker| broker.rxpartial).sum()
}

#[derive(Default, Deserialize)]
struct Statistics {
    brokers: HashMap<String, BrokerStatistics>,
}

#[derive(Deserialize)]
struct BrokerStatistics {
    rxpartial: u64,
}
