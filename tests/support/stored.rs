//! Envelopes as they are stored, and who is online by them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use futures_util::StreamExt;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;

use super::{caller, eventually};

/// How long brokers may take until they answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long one question to them may take.
const QUESTION: Duration = Duration::from_secs(5);

/// A stored record.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// When the queue took it, nanoseconds since 1970.
    pub(crate) at: i128,
    /// The subject of NATS, or the key of Kafka.
    pub(crate) address: String,
    /// Its headers.
    pub(crate) headers: BTreeMap<String, String>,
    /// The envelope as it was read.
    pub(crate) text: String,
    /// The same, as JSON.
    pub(crate) envelope: Value,
}

impl Stored {
    /// A message of NATS that came at that time.
    pub(crate) fn of_nats(at: i128, message: &async_nats::Message) -> Self {
        let headers = message.headers.iter().flat_map(async_nats::HeaderMap::iter);
        let headers = headers.map(|(name, values)| (name.to_string(), values[0].as_str().to_owned())).collect();
        Self::new(at, message.subject.to_string(), headers, &message.payload)
    }

    /// A record of Kafka.
    fn of_kafka(record: &BorrowedMessage<'_>) -> Self {
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let headers = record.headers().into_iter().flat_map(Headers::iter);
        let headers = headers.map(|header| (header.key.to_owned(), text(header.value))).collect();
        let at = i128::from(record.timestamp().to_millis().expect("records have a time")) * 1_000_000;
        Self::new(at, text(record.key()), headers, record.payload().unwrap_or_default())
    }

    fn new(at: i128, address: String, headers: BTreeMap<String, String>, payload: &[u8]) -> Self {
        let text = String::from_utf8_lossy(payload).into_owned();
        let envelope = serde_json::from_str(&text).unwrap_or(Value::Null);
        Self { at, address, headers, text, envelope }
    }
}

/// All that the stream holds at this moment, in its order. Servers that elect a leader do not answer, and are asked again.
pub(crate) fn read_stream(urls: &[String]) -> Vec<Stored> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    eventually("the stream can be read", PATIENCE, || runtime.block_on(try_read_stream(urls)).ok())
}

async fn try_read_stream(urls: &[String]) -> Result<Vec<Stored>, async_nats::Error> {
    let client = caller::options(urls).connect(urls).await?;
    let stream = caller::jetstream(client).get_stream("JETLINKS_DEVICE").await?;
    let config = OrderedConfig { deliver_policy: DeliverPolicy::All, ..OrderedConfig::default() };
    let consumer = stream.create_consumer(config).await?;
    let mut left = consumer.cached_info().num_pending;
    let mut messages = consumer.messages().await?;
    let mut read = Vec::new();
    while left > 0 {
        let message = messages.next().await.ok_or("there are messages left")??;
        let info = message.info()?;
        left = info.pending;
        read.push(Stored::of_nats(info.published.unix_timestamp_nanos(), &message));
    }
    Ok(read)
}

/// All that a topic of Kafka holds at this moment, in order for each device. Its records have the time of the broker.
pub(crate) fn read_topic(client: &ClientConfig, topic: &str) -> Vec<Stored> {
    let mut client = client.clone();
    let consumer: BaseConsumer = client
        .set("group.id", topic)
        .set("enable.auto.commit", "false")
        .create()
        .expect("the client's settings are right");
    // A broker that has just come back does not answer everything at once.
    let metadata = eventually("the brokers answer", PATIENCE, || consumer.fetch_metadata(Some(topic), QUESTION).ok());
    let partitions = metadata.topics()[0].partitions().iter().map(|partition| partition.id());
    let mut list = TopicPartitionList::new();
    let mut left = 0;
    for partition in partitions {
        let marks = || consumer.fetch_watermarks(topic, partition, QUESTION).ok();
        let (low, high) = eventually("the partition has a leader", PATIENCE, marks);
        left += high - low;
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("the partition is new to the list");
    }
    consumer.assign(&list).expect("the partitions are there");
    let mut stored = Vec::new();
    while left > 0 {
        let record = eventually("there are records left", PATIENCE, || consumer.poll(QUESTION)?.ok());
        stored.push(Stored::of_kafka(&record));
        left -= 1;
    }
    // What a device says may change its partition; within one the times only grow.
    stored.sort_by_key(|stored| stored.at);
    stored
}

/// The session in which each device is online, by the rule that consumers follow (docs/wire.md): the last `online`
/// counts, and an `offline` of the same session ends it.
pub(crate) fn online(stored: &[Stored]) -> HashMap<String, String> {
    let mut sessions = HashMap::new();
    for Stored { envelope, .. } in stored {
        let of = |member: &str| envelope[member].as_str().unwrap_or_default().to_owned();
        match of("type").as_str() {
            "org.jetlinks.device.online" => drop(sessions.insert(of("deviceid"), of("sessionid"))),
            "org.jetlinks.device.offline" if sessions.get(&of("deviceid")) == Some(&of("sessionid")) => {
                sessions.remove(&of("deviceid"));
            }
            _ => {}
        }
    }
    sessions
}
