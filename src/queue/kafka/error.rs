//! Why Kafka cannot be used with its settings.

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
