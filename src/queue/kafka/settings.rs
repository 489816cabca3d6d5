//! Parameters of the Kafka queue, and why it cannot be used with them.

use std::time::Duration;

use crate::protocol::secret::Secret;

/// Parameters of the producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// Brokers to start from, `host:port` with commas between.
    pub brokers: String,
    /// Topic of device messages, presence and heartbeats; `jetlinks.device` by default.
    pub uplink_topic: String,
    /// Topic of what could not be understood; `jetlinks.rejected` by default.
    pub rejected_topic: String,
    /// Whether missing topics are made, with the broker's own defaults; not by default.
    pub create_topics: bool,
    /// When a record that the broker does not acknowledge counts as failed: a little less than the time after which a
    /// device's connection is closed for it. 9.5 s by default.
    pub message_timeout: Duration,
    /// How long a broker may take to answer before its connection is given up, unless the properties say otherwise: half of
    /// the time after which a device's connection is closed, so that there is time to ask another one. 5 s by default.
    pub request_timeout: Duration,
    /// Bytes that librdkafka copies and holds at most; what is more waits with the sessions' own copies. 32 MiB by
    /// default.
    pub buffer_bytes: usize,
    /// Further properties of librdkafka, by their full names. All values are kept as secrets: some are.
    pub properties: Vec<(String, Secret)>,
    /// Name of the client, as the broker's logs show it; the replica's id does well.
    pub client_id: String,
}

impl KafkaSettings {
    /// Settings for these brokers, with every default of the contract.
    pub fn new(brokers: String) -> Self {
        Self {
            brokers,
            uplink_topic: "jetlinks.device".to_owned(),
            rejected_topic: "jetlinks.rejected".to_owned(),
            create_topics: false,
            message_timeout: Duration::from_millis(9500),
            request_timeout: Duration::from_secs(5),
            buffer_bytes: 32 * 1024 * 1024,
            properties: Vec::new(),
            client_id: "jetlinks-bridge".to_owned(),
        }
    }
}

/// A mistake in the settings. A broker that is away is no error: it is waited for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KafkaError {
    /// No broker is named.
    #[error("no Kafka broker is named")]
    NoBroker,
    /// This property of librdkafka is not the user's; the text says why.
    #[error("the Kafka property {0} is set by the bridge: {1}")]
    Reserved(String, &'static str),
    /// librdkafka does not take these properties or their values; the texts are librdkafka's.
    #[error("{}", listed(.0))]
    Properties(Vec<(String, String)>),
    /// librdkafka makes no client of the properties; the text is librdkafka's.
    #[error("no Kafka client can be made: {0}")]
    Client(String),
    /// Commands cannot be handed over with the settings of NATS; the text says why.
    #[error("commands cannot be handed over: {0}")]
    HandOver(String),
    /// The system gives no thread.
    #[error("no thread for Kafka: {0}")]
    Thread(std::io::ErrorKind),
}

fn listed(wrong: &[(String, String)]) -> String {
    let texts = wrong.iter().map(|(name, cause)| format!("the Kafka property {name} is not taken: {cause}"));
    texts.collect::<Vec<_>>().join("; ")
}
