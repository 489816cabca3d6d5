//! The search for batches of commands that cannot be read, beside the consumer that met one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError as ClientError;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::consumer::{CommandConsumer, REQUEST_TIMEOUT, watermarks};
use crate::queue::kafka::KafkaSettings;
use crate::queue::kafka::reader;
use crate::queue::kafka::reader::unreadable::{self, Unreadable};

/// How often partitions are looked for that do not go on although there is more in them. Of some batches the client does not
/// even say that it cannot read them.
const SILENCE: Duration = Duration::from_secs(15);

/// How far the partitions were read, and a search that is under way.
pub(super) struct Inspection {
    positions: HashMap<i32, i64>,
    /// The positions at the last look for silence, and when that was.
    earlier: HashMap<i32, i64>,
    looked: Instant,
    search: Option<JoinHandle<Result<Vec<Unreadable>, ClientError>>>,
}

impl Inspection {
    /// Before the first record.
    pub(super) fn new() -> Self {
        Self { positions: HashMap::new(), earlier: HashMap::new(), looked: Instant::now(), search: None }
    }

    /// Notes that a record was read, or the partition's part up to it.
    pub(super) fn advance(&mut self, partition: i32, next: i64) {
        let position = self.positions.entry(partition).or_insert(next);
        *position = next.max(*position);
    }

    /// How far a partition was read; `None` where nothing of it was.
    pub(super) fn position(&self, partition: i32) -> Option<i64> {
        self.positions.get(&partition).copied()
    }

    /// Notes that these partitions came or left: they are read from wherever the group says.
    pub(super) fn forget(&mut self, partitions: &[i32]) {
        self.positions.retain(|partition, _| !partitions.contains(partition));
    }

    /// Of these partitions those that have not gone on since the last look; empty while it is not yet time for another one.
    pub(super) fn silent(&mut self, partitions: Vec<i32>) -> Vec<i32> {
        if self.looked.elapsed() < SILENCE {
            return Vec::new();
        }
        self.looked = Instant::now();
        let (now, earlier) = (&self.positions, &self.earlier);
        let silent = partitions.into_iter().filter(|partition| now.get(partition) == earlier.get(partition)).collect();
        self.earlier.clone_from(now);
        silent
    }

    /// Looks at those of these partitions that have more than was read, in the background, unless a search is under way.
    pub(super) fn begin(
        &mut self,
        consumer: &Arc<CommandConsumer>,
        settings: &KafkaSettings,
        topic: &str,
        partitions: &[i32],
    ) {
        if self.search.is_some() {
            return;
        }
        let positions: Vec<(i32, Option<i64>)> =
            partitions.iter().map(|&partition| (partition, self.position(partition))).collect();
        // The properties were good when the consumer was made.
        let Ok(config) = reader::config(settings) else { return };
        let (consumer, topic) = (Arc::clone(consumer), topic.to_owned());
        self.search = Some(tokio::task::spawn_blocking(move || {
            let mut positions = complete(&consumer, &topic, &positions)?;
            let mut failure = Ok(());
            positions.retain(|&(partition, position)| {
                let ends = watermarks(&consumer, &topic, partition).map(|(_, end)| end);
                ends.map_err(|error| failure = Err(error)).is_ok_and(|end| position < end)
            });
            failure?;
            // The end of the process waits for whoever holds the consumer, and the search takes longer than its requests.
            drop(consumer);
            unreadable::find(&config, &topic, &positions)
        }));
    }

    /// The result of the search; pending while there is none. May be dropped before it is ready.
    pub(super) async fn next(&mut self) -> Result<Vec<Unreadable>, ClientError> {
        let Some(search) = &mut self.search else { return std::future::pending().await };
        let found = search.await;
        self.search = None;
        // A search that was aborted or panicked has found nothing; the next failure begins another one.
        found.unwrap_or_else(|_| Ok(Vec::new()))
    }
}

/// Records of these partitions from their positions on. Blocks.
pub(super) fn lag(
    consumer: &CommandConsumer,
    topic: &str,
    positions: &[(i32, Option<i64>)],
) -> Result<u64, ClientError> {
    let mut lag = 0;
    for (partition, position) in complete(consumer, topic, positions)? {
        let (_, end) = watermarks(consumer, topic, partition)?;
        lag += u64::try_from(end.saturating_sub(position)).unwrap_or(0);
    }
    Ok(lag)
}

/// The same positions, and those of partitions of which nothing was read yet: what the group has committed, else the
/// beginning.
fn complete(
    consumer: &CommandConsumer,
    topic: &str,
    positions: &[(i32, Option<i64>)],
) -> Result<Vec<(i32, i64)>, ClientError> {
    let mut unknown = rdkafka::TopicPartitionList::new();
    for (partition, _) in positions.iter().filter(|(_, position)| position.is_none()) {
        unknown.add_partition(topic, *partition);
    }
    let mut complete: Vec<(i32, i64)> = positions.iter().filter_map(|(p, position)| Some((*p, (*position)?))).collect();
    if unknown.count() == 0 {
        return Ok(complete);
    }
    for element in consumer.committed_offsets(unknown, REQUEST_TIMEOUT)?.elements() {
        let position = match element.offset() {
            Offset::Offset(offset) => offset,
            _ => watermarks(consumer, topic, element.partition())?.0,
        };
        complete.push((element.partition(), position));
    }
    Ok(complete)
}
