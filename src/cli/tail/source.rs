//! Queue that is read.

use super::TailError;
use crate::app::settings;
use crate::cli::lookup::CONNECTION_NAME;
use crate::config::{Config, UplinkQueue};
use crate::queue::kafka::KafkaReader;
use crate::queue::nats::NatsReader;
use crate::queue::{Position, ReadError, ReadFrom, Stored};

/// The stream, or the topics of device messages and of rejected ones.
pub(super) struct Source {
    pub(super) readers: Vec<Reader>,
    name: String,
}

/// The stream or one topic.
pub(super) enum Reader {
    Nats(Box<NatsReader>),
    Kafka(Box<KafkaReader>),
}

impl Source {
    pub(super) async fn open(config: &Config, from: ReadFrom) -> Result<Self, TailError> {
        match config.uplink.queue {
            UplinkQueue::Stdio => Err(TailError::Stdio),
            UplinkQueue::Nats => {
                let settings = settings::nats(config, CONNECTION_NAME);
                let reader = NatsReader::open(&settings, "", from).await?;
                Ok(Self { readers: vec![Reader::Nats(Box::new(reader))], name: format!("stream {}", settings.stream) })
            }
            UplinkQueue::Kafka => {
                let settings = settings::kafka(config, CONNECTION_NAME)
                    .ok_or_else(|| ReadError::Settings("kafka.brokers is not set".to_owned()))?;
                let topics = [&settings.uplink_topic, &settings.rejected_topic];
                let open = |topic: &&String| Ok(Reader::Kafka(Box::new(KafkaReader::open(&settings, topic, from)?)));
                let readers = topics.iter().map(open).collect::<Result<_, ReadError>>()?;
                Ok(Self { readers, name: format!("topics {} and {}", topics[0], topics[1]) })
            }
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The next envelope of any of them.
    pub(super) async fn next(&mut self) -> Result<Option<Stored>, ReadError> {
        match &mut self.readers[..] {
            [one] => one.next().await,
            [messages, rejected] => tokio::select! {
                stored = messages.next() => stored,
                stored = rejected.next() => stored,
            },
            _ => Ok(None),
        }
    }
}

impl Reader {
    pub(super) async fn next(&mut self) -> Result<Option<Stored>, ReadError> {
        match self {
            Reader::Nats(reader) => reader.next().await,
            Reader::Kafka(reader) => reader.next().await,
        }
    }

    /// Whether nothing is stored before what it reads.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Reader::Nats(reader) => reader.is_whole(),
            Reader::Kafka(reader) => reader.is_whole(),
        }
    }

    /// Whether one that has just been opened will come to that place.
    pub(super) fn is_ahead_of(&self, place: Position) -> bool {
        match self {
            Reader::Nats(reader) => reader.is_ahead_of(place),
            Reader::Kafka(reader) => reader.is_ahead_of(place),
        }
    }
}
