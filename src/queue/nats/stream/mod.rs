//! The stream: made when missing, looked at before records are trusted to it.

mod api;
mod foreign_streams;

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{Config, StorageType};
use async_nats::jetstream::{self, ErrorCode};
use serde::Deserialize;
use serde::de::IgnoredAny;

use self::api::ApiError;
use super::NatsSettings;
use super::connection::Client;

pub(super) use self::api::Api;
pub(super) use self::foreign_streams::ForeignStreams;

/// A queue that takes less cannot even be told that a device is there, or that a message was rejected.
pub(super) const LEAST_BYTES: usize = 1024;

/// Why the stream does not take records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StreamTrouble {
    /// The API did not answer, or not with an answer that can be read.
    Unanswered(String),
    /// The API refused to tell about the stream or to make it.
    Refused(String),
    /// The stream has no leader at present.
    Leaderless,
    /// The stream exists and does not take these subjects; only its owner can change that.
    Uncovered(String),
    /// The stream stores and acknowledges nothing.
    NoAcknowledgements,
    /// The stream takes nothing any more.
    Sealed,
    /// The stream takes no message above this many bytes.
    Narrow(usize),
    /// The stream is a copy of this one and takes nothing but what that has.
    Mirror(String),
}

impl StreamTrouble {
    /// Whether waiting does not help.
    pub(super) fn needs_a_human(&self) -> bool {
        !matches!(self, StreamTrouble::Unanswered(_) | StreamTrouble::Leaderless)
    }
}

impl fmt::Display for StreamTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamTrouble::Unanswered(cause) => write!(f, "JetStream does not answer: {cause}"),
            StreamTrouble::Refused(cause) => write!(f, "JetStream refuses: {cause}"),
            StreamTrouble::Leaderless => f.write_str("the stream has no leader"),
            StreamTrouble::Uncovered(subject) => {
                write!(f, "the stream exists and does not take {subject}: add that to its subjects")
            }
            StreamTrouble::NoAcknowledgements => f.write_str(
                "the stream acknowledges nothing (no_ack): let it (nats stream edit --ack), or name another one",
            ),
            StreamTrouble::Sealed => f.write_str("the stream is sealed: name another one"),
            StreamTrouble::Narrow(bytes) => write!(
                f,
                "the stream takes messages of at most {bytes} bytes (max_msg_size): the bridge itself needs {LEAST_BYTES}"
            ),
            StreamTrouble::Mirror(origin) => {
                write!(f, "the stream is a mirror and takes nothing: name {origin}, which it copies, or another one")
            }
        }
    }
}

/// The answer to `STREAM.INFO`, as far as it is looked at; the client's own type knows no domain.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct StreamInfo {
    config: StreamConfig,
    /// Domain of the servers that keep the stream, which their acknowledgements name.
    pub(super) domain: Option<String>,
    cluster: Option<StreamCluster>,
    state: StreamState,
}

#[derive(Debug, Clone, Deserialize)]
struct StreamConfig {
    #[serde(default)]
    subjects: Vec<String>,
    #[serde(default)]
    no_ack: bool,
    #[serde(default)]
    sealed: bool,
    mirror: Option<StreamOrigin>,
    /// None where it is absent or below 1.
    #[serde(default)]
    max_msg_size: i64,
    #[serde(default)]
    retention: String,
    #[serde(default)]
    num_replicas: usize,
}

#[derive(Debug, Clone, Deserialize)]
struct StreamOrigin {
    name: String,
}

#[derive(Debug, Clone, Deserialize)]
struct StreamState {
    #[serde(default)]
    consumer_count: usize,
}

impl StreamInfo {
    /// Whether the stream acknowledges records and keeps none: what no consumer is interested in, it drops at once.
    pub(super) fn keeps_nothing(&self) -> bool {
        self.config.retention == "interest" && self.state.consumer_count == 0
    }

    /// Copies in the cluster.
    pub(super) fn replicas(&self) -> usize {
        self.config.num_replicas
    }

    /// The reason why the stream cannot be used, if there is one.
    pub(super) fn trouble(&self, prefix: &str) -> Option<StreamTrouble> {
        let StreamConfig { subjects: filters, no_ack, sealed, mirror, max_msg_size, .. } = &self.config;
        if let Some(origin) = mirror {
            return Some(StreamTrouble::Mirror(origin.name.clone()));
        }
        if *sealed {
            return Some(StreamTrouble::Sealed);
        }
        if *no_ack {
            return Some(StreamTrouble::NoAcknowledgements);
        }
        if let Some(bytes) = usize::try_from(*max_msg_size).ok().filter(|bytes| (1..LEAST_BYTES).contains(bytes)) {
            return Some(StreamTrouble::Narrow(bytes));
        }
        let uncovered = subjects(prefix).into_iter().find(|subject| !filters.iter().any(|f| covers(f, subject)));
        if let Some(subject) = uncovered {
            return Some(StreamTrouble::Uncovered(subject));
        }
        let is_led = |cluster: &StreamCluster| cluster.leader.as_deref().is_some_and(|leader| !leader.is_empty());
        (!self.cluster.as_ref().is_none_or(is_led)).then_some(StreamTrouble::Leaderless)
    }
}

#[derive(Debug, Clone, Deserialize)]
struct StreamCluster {
    leader: Option<String>,
}

/// The API of JetStream in that domain; `None` is that of the server itself.
pub(super) fn context(client: &async_nats::Client, domain: Option<&str>, timeout: Duration) -> jetstream::Context {
    let mut context = match domain {
        Some(domain) => jetstream::with_domain(client.clone(), domain),
        None => jetstream::new(client.clone()),
    };
    context.set_timeout(timeout);
    context
}

/// Makes sure that the stream exists, has a leader, takes every subject that the bridge writes, and acknowledges.
pub(super) async fn prepare(api: &Api<impl Client>, settings: &NatsSettings) -> Result<StreamInfo, StreamTrouble> {
    let info = match look(api, settings).await? {
        Some(info) => info,
        None => {
            make(api, settings).await?;
            look(api, settings).await?.ok_or(StreamTrouble::Leaderless)?
        }
    };
    match info.trouble(&settings.prefix) {
        Some(trouble) => Err(trouble),
        None => Ok(info),
    }
}

async fn look(api: &Api<impl Client>, settings: &NatsSettings) -> Result<Option<StreamInfo>, StreamTrouble> {
    let name = format!("STREAM.INFO.{}", settings.stream);
    match api.ask(settings.domain.as_deref(), &name, &()).await.map_err(unanswered)? {
        Response::Ok(info) => Ok(Some(info)),
        Response::Err { error } if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
        Response::Err { error } => Err(StreamTrouble::Refused(error.to_string())),
    }
}

fn unanswered(error: ApiError) -> StreamTrouble {
    StreamTrouble::Unanswered(match error {
        ApiError::NoResponders => "no server here offers it".to_owned(),
        ApiError::Failed(cause) => cause,
    })
}

async fn make(api: &Api<impl Client>, settings: &NatsSettings) -> Result<(), StreamTrouble> {
    let defaults = &settings.stream_defaults;
    let config = Config {
        name: settings.stream.clone(),
        subjects: subjects(&settings.prefix).into(),
        storage: StorageType::File,
        num_replicas: defaults.replicas,
        max_age: defaults.max_age,
        max_bytes: defaults.max_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        ..Config::default()
    };
    let name = format!("STREAM.CREATE.{}", settings.stream);
    match api.ask(settings.domain.as_deref(), &name, &config).await.map_err(unanswered)? {
        Response::Ok(IgnoredAny) => tracing::info!(stream = settings.stream, "created the stream"),
        // Another replica was faster, with other settings; what exists counts.
        Response::Err { error } if error.error_code() == ErrorCode::STREAM_NAME_EXIST => {}
        Response::Err { error } => return Err(StreamTrouble::Refused(error.to_string())),
    }
    Ok(())
}

/// The subjects that the bridge writes.
pub(super) fn subjects(prefix: &str) -> [String; 3] {
    ["device", "rejected", "bridge"].map(|kind| format!("{prefix}.{kind}.>"))
}

/// Whether a filter takes everything that `subject`, itself perhaps with wildcards, stands for.
pub(super) fn covers(filter: &str, subject: &str) -> bool {
    let mut subject = subject.split('.');
    for token in filter.split('.') {
        match (token, subject.next()) {
            (">", Some(_)) => return true,
            ("*", Some(other)) if other != ">" => {}
            (token, Some(other)) if token == other && token != ">" => {}
            _ => return false,
        }
    }
    subject.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_covers_what_it_takes_entirely_and_nothing_else() {
        for (filter, subject, expected) in [
            ("jetlinks.device.>", "jetlinks.device.>", true),
            ("jetlinks.>", "jetlinks.device.>", true),
            (">", "jetlinks.device.>", true),
            ("*.device.>", "jetlinks.device.>", true),
            ("jetlinks.device.*", "jetlinks.device.>", false),
            ("jetlinks.device.product1.>", "jetlinks.device.>", false),
            ("jetlinks.device", "jetlinks.device.>", false),
            ("jetlinks.device.>", "jetlinks.device", false),
            ("other.>", "jetlinks.device.>", false),
        ] {
            assert_eq!(covers(filter, subject), expected, "{filter} {subject}");
        }
    }
    #[test]
    fn a_stream_that_cannot_be_used_is_told_from_one_that_can() {
        let trouble = |config: &str, rest: &str| {
            let text = format!(r#"{{"config":{{"name":"S",{config}}},"state":{{"messages":0}}{rest}}}"#);
            let info: StreamInfo = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            info.trouble("jetlinks")
        };
        let all = r#""subjects":["jetlinks.>"]"#;
        assert_eq!(trouble(all, ""), None);
        assert_eq!(trouble(&format!(r#"{all},"sources":[{{"name":"O"}}],"future":{{}}"#), ""), None);
        assert_eq!(trouble(&format!(r#"{all},"no_ack":true"#), ""), Some(StreamTrouble::NoAcknowledgements));
        assert_eq!(trouble(&format!(r#"{all},"sealed":true"#), ""), Some(StreamTrouble::Sealed));
        assert_eq!(trouble(r#""mirror":{"name":"O"}"#, ""), Some(StreamTrouble::Mirror("O".to_owned())));
        assert_eq!(trouble(&format!(r#"{all},"max_msg_size":1000"#), ""), Some(StreamTrouble::Narrow(1000)));
        assert_eq!(trouble(&format!(r#"{all},"max_msg_size":-1"#), ""), None);
        let uncovered = Some(StreamTrouble::Uncovered("jetlinks.device.>".to_owned()));
        assert_eq!(trouble(r#""sources":[{"name":"O"}]"#, ""), uncovered);
        assert_eq!(trouble(all, r#","cluster":{"name":"c","leader":"n1"}"#), None);
        for cluster in [r#","cluster":{"name":"c"}"#, r#","cluster":{"leader":""}"#] {
            assert_eq!(trouble(all, cluster), Some(StreamTrouble::Leaderless), "{cluster}");
        }
    }
}
