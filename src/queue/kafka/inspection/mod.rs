//! Whether brokers, topics and permissions are as the bridge needs them. Nothing is written and nothing is made: what the user
//! may do is the brokers' own account of it.

mod operations;

use std::fmt;
use std::time::{Duration, Instant};

use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::metadata::MetadataTopic;

use self::operations::{Operations, Question};
use super::producer::limits;
use super::reader::{self, ReaderContext};
use super::{KafkaError, KafkaSettings};
use crate::queue::Findings;

/// How long the first question may take; by then the client has told what keeps it from a broker.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two questions about a group whose coordinator is being found.
const PAUSE: Duration = Duration::from_millis(300);

/// Property of a topic: copies that must have a record before it is acknowledged.
const MIN_INSYNC: &str = "min.insync.replicas";

/// Property of a topic: bytes of its largest batch.
const MESSAGE_BYTES: &str = "max.message.bytes";

/// A topic and what the bridge does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicUse<'a> {
    /// Records are written to it.
    Write(&'a str),
    /// Records are read from it.
    Read(&'a str),
}

impl<'a> TopicUse<'a> {
    fn topic(self) -> &'a str {
        match self {
            TopicUse::Write(topic) | TopicUse::Read(topic) => topic,
        }
    }
}

/// Looks at everything once, on the calling thread, which it blocks until `deadline` at most. `group` is the consumer group of
/// the topics that are read; `record_bytes` are those of the largest envelope.
///
/// # Errors
/// [`KafkaError`] when the settings cannot be used.
pub fn inspect(
    settings: &KafkaSettings,
    topics: &[TopicUse<'_>],
    group: Option<&str>,
    record_bytes: usize,
    deadline: Instant,
    findings: &Findings,
) -> Result<(), KafkaError> {
    let config = reader::config(settings)?;
    let failed = |error: &dyn fmt::Display| KafkaError::Client(error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(&error))?;
    let _entered = runtime.enter();
    let consumer: StreamConsumer<ReaderContext> =
        StreamConsumer::from_config_and_context(&config, ReaderContext::default()).map_err(|error| failed(&error))?;
    let subject = format!("brokers {}", settings.brokers);
    // The list of all topics, as brokers may make one that is asked for by its name.
    let metadata = match consumer.fetch_metadata(None, left(deadline).min(REQUEST_TIMEOUT)) {
        Ok(metadata) => metadata,
        Err(error) => {
            reader::hear(&consumer);
            let cause = consumer.context().last_cause().unwrap_or_else(|| error.to_string());
            findings.trouble(subject, format!("cannot be reached: {cause}"));
            return Ok(());
        }
    };
    let brokers = metadata.brokers().iter().map(|broker| format!("{}:{}", broker.host(), broker.port()));
    findings.ok(subject, format!("answer, and name {}", brokers.collect::<Vec<_>>().join(", ")));
    let admin: Option<AdminClient<DefaultClientContext>> = config.create().ok();
    for used in topics {
        let topic = used.topic();
        let Some(known) = metadata.topics().iter().find(|known| known.name() == topic) else {
            tell_missing(settings, topic, findings);
            continue;
        };
        let ask = |admin| limits::settings(admin, topic, [MIN_INSYNC, MESSAGE_BYTES], left(deadline));
        let told = admin.as_ref().map_or([None; 2], ask);
        tell_topic(known, told, matches!(used, TopicUse::Write(_)), record_bytes, findings);
        let (wanted, word) = match used {
            TopicUse::Write(_) => (Operations::WRITE, "written"),
            TopicUse::Read(_) => (Operations::READ, "read"),
        };
        let allowed = Question::Topic(topic).ask(consumer.client(), left(deadline));
        tell_permission(format!("topic {topic}"), allowed, wanted, word, findings);
    }
    if let Some(group) = group {
        let ask = || Question::Group(group).ask(consumer.client(), left(deadline));
        let mut allowed = ask();
        // A cluster that had no group before makes the place where offsets are kept.
        while matches!(&allowed, Err(cause) if cause.contains("oordinator")) && left(deadline) > PAUSE {
            std::thread::sleep(PAUSE);
            allowed = ask();
        }
        tell_permission(format!("group {group}"), allowed, Operations::READ, "joined", findings);
    }
    Ok(())
}

/// Time until the deadline; a millisecond when it has passed, as some calls take 0 for ever.
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

fn tell_missing(settings: &KafkaSettings, topic: &str, findings: &Findings) {
    let subject = format!("topic {topic}");
    if settings.create_topics {
        let text = "does not exist: the bridge makes it when it starts, where its user may create topics (not tried)";
        findings.note(subject, text);
    } else {
        let text =
            "does not exist, or the user may not see it: create it, or set kafka.create_topics, or permit DESCRIBE";
        findings.trouble(subject, text);
    }
}

fn tell_topic(
    topic: &MetadataTopic,
    [wanted, message_bytes]: [Option<usize>; 2],
    is_written: bool,
    record_bytes: usize,
    findings: &Findings,
) {
    let subject = format!("topic {}", topic.name());
    let partitions = topic.partitions();
    let least = |count: fn(&rdkafka::metadata::MetadataPartition) -> usize| partitions.iter().map(count).min();
    let copies = least(|partition| partition.replicas().len()).unwrap_or_default();
    let in_sync = least(|partition| partition.isr().len()).unwrap_or_default();
    let leaderless = partitions.iter().filter(|partition| partition.leader() < 0).count();
    let shown = wanted.map_or_else(|| "not told".to_owned(), |wanted| wanted.to_string());
    let shape = format!("partitions: {}, copies: {copies}, {MIN_INSYNC}: {shown}", partitions.len());
    if leaderless > 0 {
        let text = format!("{leaderless} of its partitions have no leader: a broker is missing ({shape})");
        return findings.trouble(subject, text);
    }
    if let Some(wanted) = wanted.filter(|wanted| is_written && *wanted > in_sync) {
        let text = format!(
            "nothing can be written: {MIN_INSYNC} is {wanted}, and of one partition {in_sync} copies are in sync ({shape})"
        );
        return findings.trouble(subject, text);
    }
    findings.ok(subject.clone(), shape);
    if is_written && wanted == Some(1) && copies > 1 {
        let text = format!("{MIN_INSYNC} is 1: what one broker has counts as stored, and is gone with that broker");
        findings.note(subject.clone(), text);
    }
    if let Some(bytes) = message_bytes.filter(|bytes| is_written && *bytes < record_bytes) {
        let text = format!(
            "{MESSAGE_BYTES} is {bytes}, and the envelope of a packet of limits.packet_bytes can have {record_bytes} bytes: \
             what is larger is stored as rejected"
        );
        findings.note(subject, text);
    }
}

fn tell_permission(
    subject: String,
    allowed: Result<Option<Operations>, String>,
    wanted: i32,
    word: &str,
    findings: &Findings,
) {
    match allowed {
        Ok(Some(operations)) if operations.allow(wanted) => findings.ok(subject, format!("may be {word}")),
        Ok(Some(_)) => {
            let text = format!("must be {word}, and the user may not: permit {}", Operations::name(wanted));
            findings.trouble(subject, text);
        }
        Ok(None) => findings.note(subject, format!("the brokers do not say whether it may be {word} (not tried)")),
        Err(cause) => {
            let text =
                format!("must be {word}, and the brokers do not say whether it may: {cause}: permit DESCRIBE and ");
            findings.trouble(subject, text + Operations::name(wanted));
        }
    }
}
