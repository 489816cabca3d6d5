//! Translation of the configuration into the settings of queues, registries and tracing.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{CommandQueue, Config, Material, RegistrySource, UplinkQueue};
use crate::queue::kafka::{KafkaCommandSettings, KafkaSettings};
use crate::queue::nats::{
    Access, ConnectionLog, ConnectionRole, ConnectionTallies, NatsError, NatsMaterial, NatsSettings, NatsTlsSettings,
    StreamDefaults,
};
use crate::registry::{ConnectionObserver, HttpRegistrySettings, NatsRegistrySettings};
use crate::replica::HandOverSettings;
use crate::telemetry::admin::{Deployment, Place};
use crate::telemetry::span::{Destinations, MessagingSystem, SpanSettings};

/// Time by which Kafka gives a record up before its connection is closed for it: by then no copy of it may follow.
const KAFKA_TIMEOUT_MARGIN: Duration = Duration::from_millis(500);

/// The parts that the configuration names, without users and passwords, for those who look.
pub fn deployment(config: &Config, replica_id: &str) -> Deployment {
    let servers = config.nats.servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let nats = || Place { kind: "nats", place: servers.clone() };
    let kafka = || Place { kind: "kafka", place: config.kafka.brokers.clone().unwrap_or_default() };
    let bare = |kind| Place { kind, place: String::new() };
    let registry = &config.registry;
    let file = registry.file.as_ref().map(|path| path.display().to_string());
    let url = registry.http.url.as_ref().map(ToString::to_string);
    Deployment {
        replica_id: replica_id.to_owned(),
        messages: match config.uplink.queue {
            UplinkQueue::Nats => nats(),
            UplinkQueue::Kafka => kafka(),
            UplinkQueue::Stdio => bare("stdio"),
        },
        commands: match config.commands.queue {
            CommandQueue::Nats => nats(),
            CommandQueue::Kafka => kafka(),
            CommandQueue::Stdio => bare("stdio"),
            CommandQueue::None => bare("none"),
        },
        registry: match registry.source {
            RegistrySource::File => Place { kind: "file", place: file.unwrap_or_default() },
            RegistrySource::Http => Place { kind: "http", place: url.unwrap_or_default() },
            RegistrySource::Nats => Place { kind: "nats", place: format!("bucket {}", registry.nats_bucket) },
        },
    }
}

/// Settings of a connection to NATS; `name` appears in its monitoring.
pub fn nats(config: &Config, name: &str) -> NatsSettings {
    let nats = &config.nats;
    let material = |material: &Option<Material>| {
        material.as_ref().map(|material| match material {
            Material::File(path) => NatsMaterial::File(path.clone()),
            Material::Text(text) => NatsMaterial::Text(text.expose().to_owned()),
        })
    };
    let servers = nats.servers.iter().map(|url| url.expose().to_owned()).collect();
    NatsSettings {
        credentials: material(&nats.credentials),
        tls: NatsTlsSettings {
            ca: material(&nats.tls_ca),
            certificate: material(&nats.tls_certificate),
            private_key: material(&nats.tls_private_key),
        },
        prefix: nats.prefix.clone(),
        inbox_prefix: nats.inbox_prefix.clone(),
        domain: nats.domain.clone(),
        stream: nats.stream.name.clone(),
        stream_defaults: StreamDefaults {
            replicas: nats.stream.replicas,
            max_age: nats.stream.max_age,
            max_bytes: nats.stream.max_bytes,
        },
        claim_secrets: nats.claim_secret.clone(),
        ping_interval: nats.ping_interval,
        ack_timeout: config.limits.ack_timeout,
        connection_name: name.to_owned(),
        ..NatsSettings::new(servers)
    }
}

/// Bytes that the producer of one worker may hold for Kafka, copies of what its sessions hold: a quarter of the worker's
/// share of `limits.inflight_bytes`, 32 MiB at most.
pub fn kafka_buffer_bytes(config: &Config) -> usize {
    const BUFFER_BYTES_MAX: usize = 32 * 1024 * 1024;
    (config.limits.inflight_bytes.div_ceil(config.runtime.workers) / 4).min(BUFFER_BYTES_MAX)
}

/// Settings of Kafka; `None` without brokers.
pub fn kafka(config: &Config, name: &str) -> Option<KafkaSettings> {
    let kafka = &config.kafka;
    let ack_timeout = config.limits.ack_timeout;
    Some(KafkaSettings {
        uplink_topic: kafka.uplink_topic.clone(),
        rejected_topic: kafka.rejected_topic.clone(),
        create_topics: kafka.create_topics,
        message_timeout: ack_timeout.saturating_sub(KAFKA_TIMEOUT_MARGIN).max(ack_timeout / 2),
        request_timeout: ack_timeout / 2,
        properties: kafka.properties.clone(),
        client_id: name.to_owned(),
        buffer_bytes: kafka_buffer_bytes(config),
        ..KafkaSettings::new(kafka.brokers.clone()?)
    })
}

/// Settings of commands from Kafka; `None` without brokers. They go to other replicas exactly where replicas coordinate.
pub fn kafka_commands(config: &Config, name: &str, tallies: &ConnectionTallies) -> Option<KafkaCommandSettings> {
    let hand_over = || NatsSettings { tallies: tallies.clone(), ..nats(config, name) };
    Some(KafkaCommandSettings {
        kafka: kafka(config, name)?,
        command_topic: config.kafka.command_topic.clone(),
        reply_topic: config.kafka.reply_topic.clone(),
        group: config.kafka.group.clone(),
        max_age: config.commands.max_age,
        timeout: config.commands.timeout,
        timeout_max: config.commands.timeout_max,
        hand_over: config.has_nats_servers().then(|| Arc::new(hand_over()) as Arc<dyn HandOverSettings>),
    })
}

/// Settings of the export of spans; `None` where tracing is off.
pub fn spans(config: &Config, replica_id: &str) -> Option<SpanSettings> {
    let tracing = &config.tracing;
    Some(SpanSettings {
        url: tracing.traces_url()?,
        headers: tracing.headers.clone(),
        service_name: tracing.service_name.clone(),
        instance_id: replica_id.to_owned(),
        destinations: Destinations {
            uplink: match config.uplink.queue {
                UplinkQueue::Stdio => MessagingSystem::Stdio,
                UplinkQueue::Kafka => MessagingSystem::Kafka,
                UplinkQueue::Nats => MessagingSystem::Nats,
            },
            uplink_topic: config.kafka.uplink_topic.clone(),
            rejected_topic: config.kafka.rejected_topic.clone(),
            commands: match config.commands.queue {
                CommandQueue::None | CommandQueue::Stdio => MessagingSystem::Stdio,
                CommandQueue::Kafka => MessagingSystem::Kafka,
                CommandQueue::Nats => MessagingSystem::Nats,
            },
            command_topic: config.kafka.command_topic.clone(),
            prefix: config.nats.prefix.clone(),
        },
    })
}

impl ConnectionObserver for ConnectionLog {
    fn hear(&self, event: &async_nats::Event) {
        ConnectionLog::hear(self, event);
    }

    fn leaves(&self, cause: &str) {
        self.blame(cause);
    }
}

/// Settings of the registry in NATS KV; `name` appears in its monitoring.
///
/// # Errors
/// [`NatsError`] names the setting.
pub fn nats_registry(
    config: &Config,
    name: &str,
    tallies: &ConnectionTallies,
) -> Result<NatsRegistrySettings, NatsError> {
    let Access { servers, options, .. } = Access::new(&nats(config, name))?;
    let log = ConnectionLog::new(ConnectionRole::Registry, &servers, tallies);
    Ok(NatsRegistrySettings {
        options: log.attach(options),
        observer: Some(Arc::new(log)),
        servers,
        domain: config.nats.domain.clone(),
        bucket: config.registry.nats_bucket.clone(),
        replicas: config.nats.stream.replicas,
        product_secrets: config.registry.product_secrets,
    })
}

/// Records of devices that are not connected, kept at least.
const RECORDS_SPARE: usize = 10_000;

/// Largest record without children, in bytes.
const RECORD_BYTES: usize = 64 * 1024;

/// Bytes of a child in the record of its gateway, at most.
const CHILD_BYTES: usize = 256;

/// Settings of the registry behind HTTP; `None` without a URL.
pub fn http_registry(config: &Config) -> Option<HttpRegistrySettings> {
    let http = &config.registry.http;
    Some(HttpRegistrySettings {
        url: http.url.as_ref()?.expose().to_owned(),
        token: http.token.clone(),
        timeout: http.timeout,
        requests_max: http.concurrency,
        cache_ttl: http.cache_ttl,
        negative_ttl: http.negative_ttl,
        records_max: config.limits.connections.saturating_add(RECORDS_SPARE),
        record_bytes_max: RECORD_BYTES + CHILD_BYTES * config.limits.children_per_gateway,
    })
}
