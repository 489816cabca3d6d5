//! The consumer of commands: its properties, and what it says about its partitions.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::Notify;

use super::KafkaCommandSettings;
use crate::queue::kafka::KafkaError;
use crate::queue::kafka::connection::{Causes, Subject, is_about_a_connection, log_line, properties};
use crate::queue::kafka::reader::unreadable::is_batch_code;

/// A replica that is gone loses its partitions after this time, which is the least that brokers take unless configured
/// otherwise. A member with an id of its own never leaves the group by itself, not even at its end, so this is also how
/// long the commands of its partitions wait then.
const SESSION_TIMEOUT: &str = "6000";

/// A group may take a member for another one for this long after there was trouble with a broker.
const TROUBLE: Duration = Duration::from_secs(60);

/// Members hear of a rebalance with a heartbeat.
const HEARTBEAT: &str = "1000";

/// Commands answered within this time before a crash are read again.
const COMMIT_INTERVAL: &str = "200";

/// KiB that librdkafka reads ahead at most; one record may be larger.
const READ_AHEAD: &str = "4096";

/// How long one request to the brokers may take.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the end waits for requests under way. One takes as long as a fetch that waits for records on the same
/// connection: half a second unless the properties say more.
const LAST_REQUESTS_TIMEOUT: Duration = Duration::from_secs(2);

/// Interval in which the end checks whether other threads still hold the consumer.
const HOLDERS_INTERVAL: Duration = Duration::from_millis(5);

pub(super) type CommandConsumer = StreamConsumer<Watcher>;

/// The properties of the consumer; without a group it is told its partitions.
///
/// # Errors
/// [`KafkaError`] names the property.
pub(super) fn config(settings: &KafkaCommandSettings) -> Result<ClientConfig, KafkaError> {
    let defaults = [
        ("session.timeout.ms", SESSION_TIMEOUT),
        ("heartbeat.interval.ms", HEARTBEAT),
        ("queued.max.messages.kbytes", READ_AHEAD),
        ("fetch.max.bytes", "4194304"),
    ];
    let mut config = properties::consumer(&settings.kafka, &settings.group, &defaults)?;
    config.set("partition.assignment.strategy", "cooperative-sticky");
    if settings.hand_over.is_some() {
        if config.get("group.instance.id").is_none() {
            config.set("group.instance.id", instance_id(&settings.kafka.client_id));
        }
        config
            // In a group nothing is skipped: what is too old gets its TIME_OUT.
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", COMMIT_INTERVAL);
    } else {
        config.set("auto.offset.reset", "latest");
    }
    Ok(config)
}

/// Makes the consumer; inside a runtime.
///
/// # Errors
/// [`KafkaError::Client`] where librdkafka finds a contradiction.
pub(super) fn make(config: &ClientConfig, topic: &str, causes: Arc<Causes>) -> Result<CommandConsumer, KafkaError> {
    properties::create(config, Watcher::new(topic.to_owned(), causes))
}

/// Brokers take messages, digits, dots, _ and - in this id.
fn instance_id(client_id: &str) -> String {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    client_id.chars().map(|c| if is_legal(c) { c } else { '-' }).take(249).collect()
}

/// A change of the partitions of this replica.
#[derive(Debug)]
pub(super) enum Change {
    /// These are read here from now on.
    Assigned(Vec<i32>),
    /// These are to be given up, and the group waits for that.
    Revoked(TopicPartitionList),
    /// These are read elsewhere already.
    Lost(Vec<i32>),
}

/// Hears of changes on whichever thread polls the consumer.
pub(super) struct Watcher {
    changes: Mutex<Vec<Change>>,
    committed: Mutex<Vec<(i32, i64)>>,
    wake: Notify,
    is_closing: AtomicBool,
    pub(super) topic: String,
    pub(super) causes: Arc<Causes>,
}

impl Watcher {
    fn new(topic: String, causes: Arc<Causes>) -> Self {
        Self {
            changes: Mutex::default(),
            committed: Mutex::default(),
            wake: Notify::new(),
            is_closing: AtomicBool::new(false),
            topic,
            causes,
        }
    }

    /// The changes since the last call.
    pub(super) fn take(&self) -> Vec<Change> {
        std::mem::take(&mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Offsets by partition that were committed since the last call.
    pub(super) fn take_committed(&self) -> Vec<(i32, i64)> {
        std::mem::take(&mut *self.committed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for a change, or a commit.
    pub(super) async fn changed(&self) {
        self.wake.notified().await;
    }

    /// From now on partitions are given up at once, for nobody follows the changes any more, and [`watermarks`] requests nothing.
    pub(super) fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

    fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    fn note(&self, change: Change) {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push(change);
        self.wake.notify_one();
    }
}

/// Logs why a consumer cannot go on. A group takes a member for another one of the same name also where a broker that was away
/// has answered it late.
pub(super) fn complain_of_end(consumer: &CommandConsumer, causes: &Causes, error: &ClientError) {
    let (code, reason) = consumer.client().fatal_error().unzip();
    let reason = reason.unwrap_or_else(|| error.to_string());
    let is_fenced = code == Some(RDKafkaErrorCode::FencedInstanceId);
    let is_conflict = is_fenced && !causes.were_heard_within(TROUBLE);
    if !causes.is_news(&format!("{reason} {is_conflict}"), Instant::now()) {
        tracing::debug!(reason, "the consumer of commands cannot go on; another takes its place");
    } else if is_conflict {
        let advice = "another replica has the same group.instance.id: each needs its own";
        tracing::error!(reason, advice, "the consumer of commands cannot go on; another takes its place");
    } else {
        tracing::warn!(reason, "the consumer of commands cannot go on; another takes its place");
    }
}

/// The numbers of some partitions.
pub(super) fn numbers(partitions: &TopicPartitionList) -> Vec<i32> {
    partitions.elements().iter().map(|element| element.partition()).collect()
}

impl rdkafka::ClientContext for Watcher {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(&self.causes, Subject::Commands, level, facility, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        match error.rdkafka_error_code() {
            // The brokers are named one by one, and whoever polls hears the others: [`complain_of_end`] judges them.
            Some(RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::Fatal | RDKafkaErrorCode::FencedInstanceId) => {}
            Some(code) if is_batch_code(code) => {}
            Some(code) if is_about_a_connection(code) => self.causes.broker(Subject::Commands, reason),
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                self.causes.other(Subject::Commands, &format!("topic {}: {reason}", self.topic));
            }
            _ => self.causes.other(Subject::Commands, reason),
        }
    }
}

impl ConsumerContext for Watcher {
    /// Takes over what the client would do by itself, so that partitions can leave when their commands are answered:
    /// librdkafka waits for the call, and reads nothing meanwhile.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        if kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            if let Err(error) = consumer.incremental_assign(partitions) {
                tracing::error!(%error, "partitions of the commands cannot be taken");
            }
            self.note(Change::Assigned(numbers(partitions)));
        } else if self.is_closing() || consumer.assignment_lost() {
            if let Err(error) = consumer.incremental_unassign(partitions) {
                tracing::warn!(%error, "partitions of the commands cannot be given up");
            }
            self.note(Change::Lost(numbers(partitions)));
        } else {
            self.note(Change::Revoked(partitions.clone()));
        }
    }

    fn commit_callback(&self, result: Result<(), ClientError>, offsets: &TopicPartitionList) {
        if let Err(error) = result {
            // A rebalance is under way; the client commits again a little later.
            tracing::debug!(%error, "an offset was not committed");
            return;
        }
        let mut committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        for element in offsets.elements().iter().filter(|element| element.error().is_ok()) {
            if let Offset::Offset(offset) = element.offset() {
                committed.push((element.partition(), offset));
            }
        }
        drop(committed);
        self.wake.notify_one();
    }
}

/// Those partitions of a topic, each with an offset.
pub(super) fn list(
    topic: &str,
    offsets: impl Iterator<Item = (i32, Offset)>,
) -> Result<TopicPartitionList, ClientError> {
    let mut list = TopicPartitionList::new();
    for (number, offset) in offsets {
        list.add_partition_offset(topic, number, offset)?;
    }
    Ok(list)
}

/// The numbers of all partitions of a topic. Blocks.
pub(super) fn all_partitions(consumer: &CommandConsumer, topic: &str) -> Result<Vec<i32>, ClientError> {
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT)?;
    let topics = metadata.topics().iter().filter(|known| known.name() == topic);
    Ok(topics.flat_map(|known| known.partitions()).map(|partition| partition.id()).collect())
}

/// The first offset of a partition and the one behind its last record. Blocks, as long as a fetch that waits for records on
/// the same connection: a series of these ends early where the consumer is to be closed.
pub(super) fn watermarks(consumer: &CommandConsumer, topic: &str, partition: i32) -> Result<(i64, i64), ClientError> {
    if consumer.context().is_closing() {
        return Err(ClientError::Canceled);
    }
    consumer.fetch_watermarks(topic, partition, REQUEST_TIMEOUT)
}

/// Waits until no other thread holds the consumer, [`LAST_REQUESTS_TIMEOUT`] at most. The last thread that drops it closes it,
/// and the process waits for no thread but the one that reads: closed by another, a member may end without having left
/// its group, and its partitions stand still until its session times out.
pub(super) async fn wait_for_other_holders<C>(consumer: &Arc<C>) {
    let deadline = tokio::time::Instant::now() + LAST_REQUESTS_TIMEOUT;
    while Arc::strong_count(consumer) > 1 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(HOLDERS_INTERVAL).await;
    }
}

/// Whether Kafka answers, and lets this user see the topic. Blocks.
pub(super) fn is_readable(consumer: &CommandConsumer, topic: &str) -> bool {
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST_TIMEOUT);
    metadata.is_ok_and(|metadata| {
        let mut topics = metadata.topics().iter().filter(|known| known.name() == topic);
        topics.all(|known| known.error().is_none())
    })
}

/// All partitions of a topic with the offsets of their ends at this moment. Blocks.
pub(super) fn ends(consumer: &CommandConsumer, topic: &str) -> Result<TopicPartitionList, ClientError> {
    let mut ends = TopicPartitionList::new();
    for number in all_partitions(consumer, topic)? {
        let (_, end) = watermarks(consumer, topic, number)?;
        ends.add_partition_offset(topic, number, Offset::Offset(end))?;
    }
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::protocol::secret::Secret;
    use crate::queue::kafka::KafkaSettings;
    use crate::queue::nats::NatsSettings;

    fn settings() -> KafkaCommandSettings {
        let kafka = KafkaSettings::new("127.0.0.1:9092".to_owned());
        KafkaCommandSettings::new(kafka, Some(Arc::new(NatsSettings::new(vec!["nats://127.0.0.1:4222".to_owned()]))))
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_requests_under_way_and_not_for_ever() {
        let consumer = Arc::new(());
        wait_for_other_holders(&consumer).await;
        let request = Arc::clone(&consumer);
        let (end, ended) = tokio::sync::oneshot::channel();
        let asked = tokio::spawn(async move {
            ended.await.unwrap();
            drop(request);
        });
        let mut wait = std::pin::pin!(wait_for_other_holders(&consumer));
        assert!(timeout(LAST_REQUESTS_TIMEOUT / 2, &mut wait).await.is_err());
        end.send(()).unwrap();
        wait.await;
        asked.await.unwrap();
        assert_eq!(Arc::strong_count(&consumer), 1);
        let _hung = Arc::clone(&consumer);
        timeout(LAST_REQUESTS_TIMEOUT + HOLDERS_INTERVAL, wait_for_other_holders(&consumer)).await.unwrap();
    }

    #[test]
    fn a_replica_is_a_member_of_its_own_name_unless_the_properties_give_it_another() {
        let mut settings = settings();
        settings.kafka.client_id = "host/1".to_owned();
        let id = |settings: &KafkaCommandSettings| {
            config(settings).expect("good settings").get("group.instance.id").map(str::to_owned)
        };
        assert_eq!(id(&settings).as_deref(), Some("host-1"));
        settings.kafka.properties.push(("group.instance.id".to_owned(), Secret::new("pod-0")));
        assert_eq!(id(&settings).as_deref(), Some("pod-0"));
    }

    #[test]
    fn without_hand_over_nothing_is_committed() {
        let settings = KafkaCommandSettings { hand_over: None, ..settings() };
        let config = config(&settings).expect("good settings");
        assert_eq!(config.get("enable.auto.commit"), Some("false"));
        assert_eq!(config.get("group.instance.id"), None);
    }
}
