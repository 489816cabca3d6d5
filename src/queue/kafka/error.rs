//! Why Kafka cannot be used with its settings.

use std::fmt;

/// A mistake in the settings. A broker that is away is no error: it is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KafkaError {
    /// No broker is named.
    NoBroker,
    /// This property of librdkafka is not the user's; the text says why.
    Reserved(String, &'static str),
    /// librdkafka does not take these properties or their values; the texts are librdkafka's.
    Properties(Vec<(String, String)>),
    /// librdkafka makes no client of the properties; the text is librdkafka's.
    Client(String),
    /// Commands cannot be handed over with the settings of NATS; the text says why.
    HandOver(String),
    /// The system gives no thread.
    Thread(std::io::ErrorKind),
}

impl fmt::Display for KafkaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KafkaError::NoBroker => f.write_str("no Kafka broker is named"),
            KafkaError::Reserved(name, reason) => write!(f, "the Kafka property {name} is set by the bridge: {reason}"),
            KafkaError::Properties(wrong) => {
                for (at, (name, cause)) in wrong.iter().enumerate() {
                    let separator = if at == 0 { "" } else { "; " };
                    write!(f, "{separator}the Kafka property {name} is not taken: {cause}")?;
                }
                Ok(())
            }
            KafkaError::Client(cause) => write!(f, "no Kafka client can be made: {cause}"),
            KafkaError::HandOver(cause) => write!(f, "commands cannot be handed over: {cause}"),
            KafkaError::Thread(kind) => write!(f, "no thread for Kafka: {kind}"),
        }
    }
}

impl std::error::Error for KafkaError {}
