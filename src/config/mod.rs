//! The configuration: its sections, its sources, and its mistakes.
//!
//! [`load`] merges files, environment and `--set` by Figment. Each section takes its keys out of the result by name, one at a
//! time: every mistake is found in one go, and a key that no section asks for is unknown.

mod coap;
mod cross;
mod flow;
mod kafka;
mod limits;
mod material;
mod mistake;
mod mqtt;
mod nats;
pub mod parse;
mod process;
mod reader;
mod registry;
mod resolved;
mod secret_list;
mod section;
mod setting;
mod sources;
mod tracing;
mod unknown;
mod url;

#[cfg(test)]
mod tests;

pub use crate::protocol::secret::{REDACTED, Secret};
pub use coap::{CoapConfig, DtlsConfig};
pub use flow::{CommandQueue, CommandsConfig, EnvelopeConfig, PresenceConfig, UplinkConfig, UplinkQueue};
pub use kafka::KafkaConfig;
pub use limits::LimitsConfig;
pub use material::Material;
pub use mistake::{Mistake, Mistakes, Problem, Warning};
pub use mqtt::{MqttConfig, MqttTlsConfig, Network, WebSocketConfig};
pub use nats::{NatsConfig, StreamConfig};
pub use process::{AdminConfig, DrainConfig, LogConfig, LogFormat, RuntimeConfig, is_log_level};
pub use registry::{HttpRegistryConfig, RegistryConfig, RegistrySource};
pub use resolved::Resolved;
pub use secret_list::SecretList;
pub use sources::{BUILT_IN, ENVIRONMENT_PREFIX, Sources, examine, load};
pub use tracing::TracingConfig;
pub use url::Url;

use section::section;

section! {
    /// The whole configuration, one field for each section.
    Config checked by cross::check {
        /// Listeners for MQTT.
        mqtt: MqttConfig = section(),
        /// CoAP over UDP.
        coap: CoapConfig = section(),
        /// CoAP over DTLS.
        dtls: DtlsConfig = section(),
        /// Source of the devices' credentials.
        registry: RegistryConfig = section(),
        /// Queue of messages from devices.
        uplink: UplinkConfig = section(),
        /// Queue of commands to devices.
        commands: CommandsConfig = section(),
        /// Encoding of envelopes.
        envelope: EnvelopeConfig = section(),
        /// Heartbeats of the bridge.
        presence: PresenceConfig = section(),
        /// Brokers and topics of Kafka.
        kafka: KafkaConfig = section(),
        /// Servers, subjects and stream of NATS.
        nats: NatsConfig = section(),
        /// Bounds of memory and work.
        limits: LimitsConfig = section(),
        /// Worker threads.
        runtime: RuntimeConfig = section(),
        /// Pace and limit of a shutdown.
        drain: DrainConfig = section(),
        /// Probes, metrics, sessions.
        admin: AdminConfig = section(),
        /// Levels and format of the log.
        log: LogConfig = section(),
        /// Export of spans.
        tracing: TracingConfig = section(),
    }
}

/// A configuration without mistakes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Settings that work, and probably are not what was meant.
    pub warnings: Vec<Warning>,
    /// The settings as TOML, secrets redacted.
    pub resolved: Resolved,
    /// Whether the built-in configuration for development was the base: no file and no variable configured anything.
    pub built_in: bool,
}

impl Config {
    /// Whether any part uses Kafka.
    pub fn uses_kafka(&self) -> bool {
        self.uplink.queue == UplinkQueue::Kafka || self.commands.queue == CommandQueue::Kafka
    }

    /// Whether NATS servers are configured; replicas coordinate exactly then.
    pub fn has_nats_servers(&self) -> bool {
        !self.nats.servers.is_empty()
    }
}
