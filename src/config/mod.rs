//! The configuration: what can be set, where it comes from, and what is wrong with it.
//!
//! [`load`] merges files, environment and `--set` into one tree; each section takes its keys out of it by name, so that
//! every mistake is found in one go and a key that no section asked for is known to be one.

mod coap;
mod cross;
mod flow;
mod kafka;
mod limits;
mod material;
mod mistake;
mod mqtt;
mod nats;
mod network;
pub mod parse;
mod process;
mod reader;
mod registry;
mod resolved;
mod setting;
mod sources;
mod tracing;
mod unknown;
mod url;

#[cfg(test)]
mod tests;

pub use crate::protocol::secret::{REDACTED, Secret};
pub use coap::{CoapConfig, DtlsConfig};
pub use flow::{CommandQueue, CommandsConfig, EnvelopeConfig, EnvelopeMode, PresenceConfig, UplinkConfig, UplinkQueue};
pub use kafka::KafkaConfig;
pub use limits::LimitsConfig;
pub use material::Material;
pub use mistake::{Mistake, Mistakes, Problem, Warning};
pub use mqtt::{MqttConfig, MqttTlsConfig, WebSocketConfig};
pub use nats::{NatsConfig, StreamConfig};
pub use network::Network;
pub use process::{AdminConfig, DrainConfig, LogConfig, LogFormat, RuntimeConfig, is_log_level};
pub use registry::{HttpRegistryConfig, RegistryConfig, RegistrySource};
pub use resolved::Resolved;
pub use sources::{BUILT_IN, ENVIRONMENT_PREFIX, Sources, load};
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
    /// Where credentials of devices come from.
    pub registry: RegistryConfig,
    /// Where messages of devices go.
    pub uplink: UplinkConfig,
    /// Where commands come from.
    pub commands: CommandsConfig,
    /// How envelopes are written.
    pub envelope: EnvelopeConfig,
    /// What the bridge says of itself.
    pub presence: PresenceConfig,
    /// Kafka.
    pub kafka: KafkaConfig,
    /// NATS.
    pub nats: NatsConfig,
    /// What bounds memory and work.
    pub limits: LimitsConfig,
    /// Threads.
    pub runtime: RuntimeConfig,
    /// How the process ends.
    pub drain: DrainConfig,
    /// Probes, metrics, sessions.
    pub admin: AdminConfig,
    /// What is logged.
    pub log: LogConfig,
    /// Where spans go.
    pub tracing: TracingConfig,
}

/// A configuration without mistakes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// What works, and probably is not what was meant.
    pub warnings: Vec<Warning>,
    /// The settings in words, secrets redacted.
    pub resolved: Resolved,
    /// Whether the built-in configuration for development was the base: no file and no variable configured anything.
    pub built_in: bool,
}

impl Config {
    fn read(r: &mut Reader<'_>) -> Self {
        let config = Self {
            mqtt: MqttConfig::read(r),
            coap: CoapConfig::read(r),
            dtls: DtlsConfig::read(r),
            registry: RegistryConfig::read(r),
            uplink: UplinkConfig::read(r),
            commands: CommandsConfig::read(r),
            envelope: EnvelopeConfig::read(r),
            presence: PresenceConfig::read(r),
            kafka: KafkaConfig::read(r),
            nats: NatsConfig::read(r),
            limits: LimitsConfig::read(r),
            runtime: RuntimeConfig::read(r),
            drain: DrainConfig::read(r),
            admin: AdminConfig::read(r),
            log: LogConfig::read(r),
            tracing: TracingConfig::read(r),
        };
        cross::check(&config, r);
        config
    }

    /// Whether any part uses Kafka.
    pub fn uses_kafka(&self) -> bool {
        self.uplink.queue == UplinkQueue::Kafka || self.commands.queue == CommandQueue::Kafka
    }

    /// Whether replicas coordinate: exactly when NATS servers are configured.
    pub fn coordinates(&self) -> bool {
        !self.nats.servers.is_empty()
    }
}
