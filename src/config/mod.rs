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

use reader::Reader;

/// The whole configuration, one field for each section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Listeners for MQTT.
    pub mqtt: MqttConfig,
    /// CoAP over UDP.
    pub coap: CoapConfig,
    /// CoAP over DTLS.
    pub dtls: DtlsConfig,
    /// Source of the devices' credentials.
    pub registry: RegistryConfig,
    /// Queue of messages from devices.
    pub uplink: UplinkConfig,
    /// Queue of commands to devices.
    pub commands: CommandsConfig,
    /// Encoding of envelopes.
    pub envelope: EnvelopeConfig,
    /// Heartbeats of the bridge.
    pub presence: PresenceConfig,
    /// Brokers and topics of Kafka.
    pub kafka: KafkaConfig,
    /// Servers, subjects and stream of NATS.
    pub nats: NatsConfig,
    /// Bounds of memory and work.
    pub limits: LimitsConfig,
    /// Worker threads.
    pub runtime: RuntimeConfig,
    /// Pace and limit of a shutdown.
    pub drain: DrainConfig,
    /// Probes, metrics, sessions.
    pub admin: AdminConfig,
    /// Levels and format of the log.
    pub log: LogConfig,
    /// Export of spans.
    pub tracing: TracingConfig,
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
    fn read(reader: &mut Reader<'_>) -> Self {
        let config = Self {
            mqtt: MqttConfig::read(reader),
            coap: CoapConfig::read(reader),
            dtls: DtlsConfig::read(reader),
            registry: RegistryConfig::read(reader),
            uplink: UplinkConfig::read(reader),
            commands: CommandsConfig::read(reader),
            envelope: EnvelopeConfig::read(reader),
            presence: PresenceConfig::read(reader),
            kafka: KafkaConfig::read(reader),
            nats: NatsConfig::read(reader),
            limits: LimitsConfig::read(reader),
            runtime: RuntimeConfig::read(reader),
            drain: DrainConfig::read(reader),
            admin: AdminConfig::read(reader),
            log: LogConfig::read(reader),
            tracing: TracingConfig::read(reader),
        };
        cross::check(&config, reader);
        config
    }

    /// Whether any part uses Kafka.
    pub fn uses_kafka(&self) -> bool {
        self.uplink.queue == UplinkQueue::Kafka || self.commands.queue == CommandQueue::Kafka
    }

    /// Whether NATS servers are configured; replicas coordinate exactly then.
    pub fn has_nats_servers(&self) -> bool {
        !self.nats.servers.is_empty()
    }
}
