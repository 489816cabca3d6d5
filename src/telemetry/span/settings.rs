//! Parameters of the export of spans.

use crate::protocol::secret::Secret;

/// Destination of spans, and the names in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanSettings {
    /// The URL that batches are posted to.
    pub url: String,
    /// Sent along with each.
    pub headers: Vec<(String, Secret)>,
    /// Attribute `service.name`.
    pub service_name: String,
    /// Attribute `service.instance.id`: the replica.
    pub instance_id: String,
    /// The names of the queues.
    pub destinations: Destinations,
}

/// The queues, as spans name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destinations {
    /// Where messages go.
    pub uplink: MessagingSystem,
    /// Kafka's topic of messages.
    pub uplink_topic: String,
    /// Kafka's topic of what was rejected.
    pub rejected_topic: String,
    /// Where commands come from.
    pub commands: MessagingSystem,
    /// Kafka's topic of commands.
    pub command_topic: String,
    /// First tokens of the subjects of NATS.
    pub prefix: String,
}

/// A queue, as the semantic conventions of OpenTelemetry name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessagingSystem {
    /// Kafka.
    Kafka,
    /// NATS.
    Nats,
    /// Stdin and stdout. The conventions have no name for them.
    Stdio,
}

impl MessagingSystem {
    /// Attribute `messaging.system`.
    pub fn as_str(self) -> &'static str {
        match self {
            MessagingSystem::Kafka => "kafka",
            MessagingSystem::Nats => "nats",
            MessagingSystem::Stdio => "stdio",
        }
    }
}
