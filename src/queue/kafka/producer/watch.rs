//! Stuck partitions: found by the statistics of their producer, explained by what the brokers say.
//!
//! librdkafka sends a batch that the leader refuses for now (too few replicas in sync) or that has no leader again and again
//! until its records are too old, without a word. So where a partition has records and none was acknowledged from one look
//! to the next, the brokers are asked about it, on a thread that lives as long as the question.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::metadata::MetadataPartition;
use serde::Deserialize;

use super::limits;
use crate::queue::kafka::connection::{Causes, Subject};

/// How long one request to the brokers may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Looks at the statistics of one producer.
pub(crate) struct Watch {
    subject: Subject,
    causes: Arc<Causes>,
    /// The properties of the client that asks the brokers.
    config: ClientConfig,
    /// The last acknowledged message of each partition that had some waiting at the last look.
    waiting: Mutex<HashMap<(String, i32), i64>>,
    is_asking: Arc<AtomicBool>,
    is_partial: Arc<AtomicBool>,
}

impl Watch {
    /// `subject` is what the producer is for; `config` has what every client has.
    pub(crate) fn new(subject: Subject, causes: Arc<Causes>, config: ClientConfig) -> Self {
        Self {
            subject,
            causes,
            config,
            waiting: Mutex::default(),
            is_asking: Arc::default(),
            is_partial: Arc::default(),
        }
    }

    /// Whether all stuck partitions have a reason of their own, while others can be written to.
    pub(crate) fn is_partial(&self) -> bool {
        self.is_partial.load(Ordering::Relaxed)
    }

    /// Takes the statistics of a producer, as JSON.
    pub(crate) fn look(&self, statistics: &[u8]) {
        let Ok(statistics) = serde_json::from_slice::<Statistics>(statistics) else { return };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, stuck) = compare(&statistics, &waiting);
        *waiting = now;
        drop(waiting);
        if stuck.is_empty() {
            self.is_partial.store(false, Ordering::Relaxed);
            return;
        }
        if self.is_asking.swap(true, Ordering::Relaxed) {
            return;
        }
        let (subject, causes, config) = (self.subject, Arc::clone(&self.causes), self.config.clone());
        let (is_asking, is_partial) = (Arc::clone(&self.is_asking), Arc::clone(&self.is_partial));
        let asked = thread::Builder::new().name("kafka-question".to_owned()).spawn(move || {
            // Where no broker answers, what they said before holds as long as partitions are stuck.
            if let Some(answer) = explain(&config, &stuck) {
                is_partial.store(answer.is_partial, Ordering::Relaxed);
                for cause in &answer.causes {
                    causes.other(subject, cause);
                }
            }
            is_asking.store(false, Ordering::Relaxed);
        });
        if asked.is_err() {
            self.is_asking.store(false, Ordering::Relaxed);
        }
    }
}

/// Stuck partitions by topic: those with records that wait, of which none was acknowledged between two statistics.
type Stuck = BTreeMap<String, Vec<i32>>;

/// Partitions with records that wait now, and those that waited before and got no acknowledgement since.
fn compare(statistics: &Statistics, before: &HashMap<(String, i32), i64>) -> (HashMap<(String, i32), i64>, Stuck) {
    let (mut now, mut stuck) = (HashMap::new(), Stuck::new());
    let mut partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
    let is_hidden = statistics.msg_cnt > 0 && partitions.all(|own| own.waiting() == 0);
    for (topic, TopicStatistics { partitions }) in &statistics.topics {
        let is_waiting = |own: &&PartitionStatistics| own.waiting() > 0 || is_hidden && own.txmsgs > own.acked_msgid;
        // Partition -1 has what belongs to none yet.
        for partition in partitions.values().filter(|own| own.partition >= 0).filter(is_waiting) {
            let key = (topic.clone(), partition.partition);
            if before.get(&key) == Some(&partition.acked_msgid) {
                stuck.entry(topic.clone()).or_default().push(partition.partition);
            }
            now.insert(key, partition.acked_msgid);
        }
    }
    (now, stuck)
}

#[derive(Deserialize)]
struct Statistics {
    /// Messages that were not reported on, wherever they are. A batch that the leader refused waits between two attempts
    /// where the statistics of its partition do not show it.
    msg_cnt: u64,
    #[serde(default)]
    topics: HashMap<String, TopicStatistics>,
}

#[derive(Deserialize)]
struct TopicStatistics {
    partitions: HashMap<String, PartitionStatistics>,
}

#[derive(Deserialize)]
struct PartitionStatistics {
    partition: i32,
    msgq_cnt: u64,
    xmit_msgq_cnt: u64,
    msgs_inflight: i64,
    /// Messages sent, each attempt counted.
    txmsgs: i64,
    /// Number of the last message acknowledged.
    acked_msgid: i64,
}

impl PartitionStatistics {
    fn waiting(&self) -> u64 {
        self.msgq_cnt + self.xmit_msgq_cnt + u64::try_from(self.msgs_inflight).unwrap_or(0)
    }
}

/// The answer of the brokers about stuck partitions.
#[derive(Debug)]
struct Answer {
    /// One line for each topic and reason.
    causes: Vec<String>,
    /// Whether all of them have a reason of their own, while others of their topics can be written to.
    is_partial: bool,
}

/// Asks the brokers about stuck partitions; `None` where the brokers do not answer, which shows in other ways.
fn explain(config: &ClientConfig, stuck: &Stuck) -> Option<Answer> {
    let admin = config.create::<AdminClient<DefaultClientContext>>().ok()?;
    let metadata = admin.inner().fetch_metadata(None, REQUEST_TIMEOUT).ok()?;
    let mut answer = Answer { causes: Vec::new(), is_partial: true };
    for topic in metadata.topics() {
        let Some(numbers) = stuck.get(topic.name()) else { continue };
        let is_led = |own: &&MetadataPartition| numbers.contains(&own.id()) && own.leader() >= 0;
        // A second question, to a broker that may be the one that is gone: only where the first one explains too little.
        let [minimum] = match topic.partitions().iter().find(is_led) {
            Some(_) => limits::settings(&admin, topic.name(), ["min.insync.replicas"], REQUEST_TIMEOUT),
            None => [None],
        };
        let mut by_reason: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        let mut is_writable = false;
        for partition in topic.partitions() {
            if !numbers.contains(&partition.id()) {
                is_writable |= partition.leader() >= 0;
                continue;
            }
            match reason(partition, minimum) {
                Some(reason) => by_reason.entry(reason).or_default().push(partition.id()),
                None => answer.is_partial = false,
            }
        }
        answer.is_partial &= is_writable;
        for (reason, numbers) in by_reason {
            answer.causes.push(format!("topic {}, partition {}: {reason}", topic.name(), list(&numbers)));
        }
    }
    Some(answer)
}

fn reason(partition: &MetadataPartition, minimum: Option<usize>) -> Option<String> {
    let (in_sync, replicas) = (partition.isr().len(), partition.replicas().len());
    if partition.leader() < 0 {
        return Some("it has no leader".to_owned());
    }
    match minimum {
        Some(minimum) if in_sync < minimum => {
            Some(format!("{in_sync} of {replicas} replicas are in sync, and min.insync.replicas is {minimum}"))
        }
        None if in_sync < replicas => Some(format!("{in_sync} of {replicas} replicas are in sync")),
        _ => None,
    }
}

/// The first few of the numbers.
fn list(numbers: &[i32]) -> String {
    const SHOWN: usize = 5;
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    let shown: Vec<String> = numbers.iter().take(SHOWN).map(i32::to_string).collect();
    let rest = if numbers.len() > SHOWN { " and others" } else { "" };
    shown.join(", ") + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(partitions: &[(i32, u64, i64)]) -> Statistics {
        let partition = |&(number, waiting, acked): &(i32, u64, i64)| {
            format!(
                r#""{number}":{{"partition":{number},"msgq_cnt":{waiting},"xmit_msgq_cnt":0,"msgs_inflight":0,"txmsgs":30,"acked_msgid":{acked},"leader":1}}"#
            )
        };
        let partitions: Vec<String> = partitions.iter().map(partition).collect();
        let text = format!(
            r#"{{"name":"x","msg_cnt":9,"topics":{{"t":{{"topic":"t","partitions":{{{}}}}}}}}}"#,
            partitions.join(",")
        );
        serde_json::from_str(&text).expect("the statistics of librdkafka")
    }

    #[test]
    fn a_partition_is_stuck_when_records_wait_at_two_looks_and_none_was_acknowledged_between() {
        let (waiting, stuck) = compare(&statistics(&[(0, 1, 10), (1, 1, 20), (2, 0, 30), (-1, 5, 0)]), &HashMap::new());
        assert!(stuck.is_empty());
        let (waiting, stuck) = compare(&statistics(&[(0, 9, 10), (1, 9, 21), (2, 9, 30), (-1, 5, 0)]), &waiting);
        assert_eq!(stuck.get("t"), Some(&vec![0]), "the second went on, the third had nothing before");
        let (_, stuck) = compare(&statistics(&[(0, 0, 10), (1, 9, 21)]), &waiting);
        assert_eq!(stuck.get("t"), Some(&vec![1]));
    }

    #[test]
    fn a_batch_between_two_attempts_is_in_a_partition_that_has_sent_more_than_was_acknowledged() {
        let hidden = statistics(&[(0, 0, 10), (1, 0, 30)]);
        let (waiting, _) = compare(&hidden, &HashMap::new());
        assert_eq!(compare(&hidden, &waiting).1.get("t"), Some(&vec![0]));
        let (_, stuck) = compare(&statistics(&[(0, 0, 10), (1, 1, 30)]), &waiting);
        assert!(stuck.is_empty(), "what waits is seen elsewhere");
    }

    #[test]
    fn a_long_list_of_partitions_is_cut() {
        assert_eq!(list(&[2, 1]), "1, 2");
        assert_eq!(list(&[9, 8, 7, 3, 2, 1]), "1, 2, 3, 7, 8 and others");
    }
}
