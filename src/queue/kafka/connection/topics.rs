//! The topics: looked at before records are trusted to them, made if wanted.

use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{Client, ClientContext, DefaultClientContext};
use rdkafka::error::RDKafkaErrorCode;

use super::causes::{Causes, Subject};
use crate::queue::LastTrouble;

/// How long one request to the brokers may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Stands for the broker's own default, of partitions and of copies (KIP-464).
const BROKER_DEFAULT: i32 = -1;

/// Why the topics do not take records.
#[derive(Debug, Clone, PartialEq, Eq)]
enum TopicTrouble {
    /// No broker answers.
    Unanswered(String),
    /// This topic does not exist or is not shown, and the bridge must not make it.
    Missing(String),
    /// This topic could not be made.
    NotMade(String, String),
    /// This topic was made just now, and the brokers may need a moment for its leaders.
    JustMade(String),
    /// No partition of this topic has a leader.
    Leaderless(String),
}

impl TopicTrouble {
    /// Whether waiting does not help.
    fn needs_a_human(&self) -> bool {
        matches!(self, TopicTrouble::Missing(_) | TopicTrouble::NotMade(..))
    }
}

impl fmt::Display for TopicTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopicTrouble::Unanswered(cause) => write!(f, "no Kafka broker answers: {cause}"),
            TopicTrouble::Missing(topic) => write!(f, "topic {topic} does not exist, or the bridge may not see it"),
            TopicTrouble::NotMade(topic, cause) => write!(f, "topic {topic} cannot be made: {cause}"),
            TopicTrouble::JustMade(topic) => write!(f, "topic {topic} was made just now"),
            TopicTrouble::Leaderless(topic) => write!(f, "no partition of topic {topic} has a leader"),
        }
    }
}

/// The topics that a client waits for, before it is used.
pub(crate) struct TopicCheck {
    subject: Subject,
    names: Vec<String>,
    may_make: bool,
    last: LastTrouble<TopicTrouble>,
}

impl TopicCheck {
    /// Checks of these topics; `may_make` is whether missing ones are made.
    pub(crate) fn new(subject: Subject, names: &[&str], may_make: bool) -> Self {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Self { subject, names, may_make, last: LastTrouble::default() }
    }

    /// Whether the topics are there and can take something. Their trouble is logged when it changes. Where no broker answers,
    /// `hear` lets the client tell `causes` why.
    pub(crate) fn is_ready<C: ClientContext>(
        &mut self,
        client: &Client<C>,
        config: &ClientConfig,
        causes: &Causes,
        hear: impl FnOnce(),
    ) -> bool {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let Err(mut trouble) = prepare(client, config, &names, self.may_make) else {
            self.last.clear();
            return true;
        };
        if let TopicTrouble::Unanswered(cause) = &mut trouble {
            // The question itself fails with no more than that it was not answered.
            hear();
            *cause = causes.last().unwrap_or_else(|| std::mem::take(cause));
        }
        // That it was made is told already.
        if !matches!(trouble, TopicTrouble::JustMade(_)) && self.last.is_news(&trouble) {
            let is_records = self.subject == Subject::Records;
            match (trouble.needs_a_human(), is_records) {
                (true, true) => tracing::error!(cause = %trouble, "Kafka cannot be used"),
                (true, false) => tracing::error!(cause = %trouble, "commands cannot be taken from Kafka"),
                (false, true) => tracing::warn!(cause = %trouble, "waiting for Kafka"),
                (false, false) => tracing::warn!(cause = %trouble, "commands wait for Kafka"),
            }
        }
        false
    }
}

/// Makes sure that these topics are there and can take something; `may_make` is whether missing ones are made.
fn prepare<C: ClientContext>(
    client: &Client<C>,
    config: &ClientConfig,
    names: &[&str],
    may_make: bool,
) -> Result<(), TopicTrouble> {
    // The list of all topics: asking for one by name would make brokers with `auto.create.topics.enable` create it.
    let metadata =
        client.fetch_metadata(None, REQUEST_TIMEOUT).map_err(|error| TopicTrouble::Unanswered(error.to_string()))?;
    let mut missing = Vec::new();
    for &name in names {
        match metadata.topics().iter().find(|topic| topic.name() == name) {
            None => missing.push(name),
            Some(topic) if topic.partitions().iter().all(|partition| partition.leader() < 0) => {
                return Err(TopicTrouble::Leaderless(name.to_owned()));
            }
            Some(_) => {}
        }
    }
    match missing.first() {
        None => Ok(()),
        Some(topic) if !may_make => Err(TopicTrouble::Missing((*topic).to_owned())),
        Some(topic) => {
            make(config, &missing)?;
            // What was just made is seen at the next look.
            Err(TopicTrouble::JustMade((*topic).to_owned()))
        }
    }
}

/// Whether any broker answers.
pub(crate) fn is_reachable<C: ClientContext>(client: &Client<C>) -> bool {
    client.fetch_metadata(None, REQUEST_TIMEOUT).is_ok()
}

fn make(config: &ClientConfig, names: &[&str]) -> Result<(), TopicTrouble> {
    let failed = |cause: String| TopicTrouble::NotMade(names.join(", "), cause);
    let admin: AdminClient<DefaultClientContext> = config.create().map_err(|error| failed(error.to_string()))?;
    let topics: Vec<NewTopic<'_>> =
        names.iter().map(|name| NewTopic::new(name, BROKER_DEFAULT, TopicReplication::Fixed(BROKER_DEFAULT))).collect();
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let made = runtime.block_on(admin.create_topics(&topics, &options)).map_err(|error| failed(error.to_string()))?;
    for result in made {
        match result {
            Ok(topic) => tracing::info!(topic, "created the topic"),
            // Another replica was faster.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(TopicTrouble::NotMade(topic, code.to_string())),
        }
    }
    Ok(())
}
