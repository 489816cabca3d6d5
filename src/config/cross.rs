//! Contradictions between sections, and what works but is odd.

use std::net::SocketAddr;

use super::reader::Reader;
use super::{CommandQueue, Config, RegistrySource, UplinkQueue};

/// The record size that Kafka and NATS take unless configured otherwise, in bytes.
const QUEUE_RECORD_BYTES: usize = 1_000_000;

/// Fewer bytes than this are worth a warning.
const SECRET_BYTES: usize = 16;

/// Adds the mistakes and warnings that no section shows alone.
pub(super) fn check(config: &Config, r: &mut Reader<'_>) {
    check_servers(config, r);
    check_addresses(config, r);
    warn_of_secrets(config, r);
    warn_of_limits(config, r);
    warn_of_unused(config, r);
}

fn check_servers(config: &Config, r: &mut Reader<'_>) {
    let (uplink, commands) = (config.uplink.queue, config.commands.queue);
    let kafka = [("uplink.queue", uplink == UplinkQueue::Kafka), ("commands.queue", commands == CommandQueue::Kafka)];
    let nats = [
        ("uplink.queue", uplink == UplinkQueue::Nats),
        ("commands.queue", commands == CommandQueue::Nats),
        ("registry.source", config.registry.source == RegistrySource::Nats),
    ];
    if let Some((user, _)) = kafka.iter().find(|(_, uses)| *uses) {
        r.missing("kafka.brokers", config.kafka.brokers.is_some(), format!("{user} = \"kafka\" needs brokers"));
    }
    if let Some((user, _)) = nats.iter().find(|(_, uses)| *uses) {
        r.missing("nats.servers", config.coordinates(), format!("{user} = \"nats\" needs servers"));
    }
}

/// Refuses two TCP listeners on one address: the second could not be bound. Port 0 is any that is free.
fn check_addresses(config: &Config, r: &mut Reader<'_>) {
    let mqtt = &config.mqtt;
    let listeners = [
        ("mqtt.listen", &mqtt.listen),
        ("mqtt.tls.listen", &mqtt.tls.listen),
        ("mqtt.websocket.listen", &mqtt.websocket.listen),
        ("mqtt.websocket_tls.listen", &mqtt.websocket_tls.listen),
        ("admin.listen", &config.admin.listen),
    ];
    let mut taken: Vec<(&str, SocketAddr)> = Vec::new();
    for (key, &address) in listeners.iter().flat_map(|(key, all)| all.iter().map(move |address| (*key, address))) {
        match taken.iter().find(|(_, other)| *other == address && address.port() != 0) {
            Some((other, _)) => r.invalid(key, format!("{address} is that of {other}")),
            None => taken.push((key, address)),
        }
    }
}

fn warn_of_secrets(config: &Config, r: &mut Reader<'_>) {
    let secrets = &config.dtls.token_secret;
    if !config.dtls.listen.is_empty() && secrets.is_empty() {
        r.warn(
            "dtls.token_secret",
            "not set, so made at start: tokens hold on the replica alone that gave them out, and until it ends",
        );
    }
    if secrets.iter().any(|secret| secret.expose().len() < SECRET_BYTES) {
        r.warn("dtls.token_secret", "shorter than 16 bytes: who guesses it can make tokens for every device");
    }
    if !config.coap.listen.is_empty() && config.coap.direct {
        r.warn(
            "coap.direct",
            "on: of 256 `direct` messages that a stranger makes up for a device, one is taken for its own",
        );
    }
    if config.nats.claim_secret.iter().any(|secret| secret.expose().len() < SECRET_BYTES) {
        r.warn("nats.claim_secret", "shorter than 16 bytes: who guesses it can end the session of every device");
    }
    let outside = config.admin.listen.iter().any(|address| !address.ip().is_loopback());
    if outside && config.admin.token.is_none() {
        r.warn("admin.token", "not set, and admin.listen is not loopback: /api answers 403 there");
    }
}

fn warn_of_limits(config: &Config, r: &mut Reader<'_>) {
    let limits = &config.limits;
    if limits.packet_bytes.saturating_mul(4) > limits.inflight_bytes {
        r.warn(
            "limits.inflight_bytes",
            "less than four times limits.packet_bytes: a single large message stops all reading",
        );
    }
    // The largest envelope carries the packet in base64.
    let queued = config.uplink.queue != UplinkQueue::Stdio;
    if queued && limits.packet_bytes.saturating_mul(4) / 3 + 4_096 > QUEUE_RECORD_BYTES {
        r.warn(
            "limits.packet_bytes",
            "an envelope of such a packet can be over the 1 MB that Kafka and NATS take unless configured otherwise",
        );
    }
}

fn warn_of_unused(config: &Config, r: &mut Reader<'_>) {
    let (mqtt, registry) = (&config.mqtt, &config.registry);
    if config.commands.queue == CommandQueue::Kafka && !config.coordinates() {
        r.warn(
            "commands.queue",
            "\"kafka\" without nats.servers: every replica reads every command from the end of the topic, \
             and a command for a device that no replica holds gets no outcome",
        );
    }
    let has_plain = !mqtt.listen.is_empty() || !mqtt.websocket.listen.is_empty();
    let has_tls = !mqtt.tls.listen.is_empty() || !mqtt.websocket_tls.listen.is_empty();
    let has_coap = !config.coap.listen.is_empty() || !config.dtls.listen.is_empty();
    if !has_plain && !has_tls && !has_coap {
        r.warn("mqtt.listen", "no listener is on: no device can connect");
    }
    if registry.source == RegistrySource::Http && registry.product_secrets {
        r.warn("registry.product_secrets", "counts for nothing with registry.source = \"http\": a record tells all");
    }
    let tracing = ["tracing.sample_ratio", "tracing.service_name"].into_iter().find(|key| r.is_set(key));
    if let (Some(key), None) = (tracing, &config.tracing.endpoint) {
        r.warn(key, "set, but tracing.endpoint is not: tracing is off");
    }
    if config.kafka.brokers.is_some() && !config.uses_kafka() {
        r.warn("kafka.brokers", "set, but no queue is \"kafka\"");
    }
    if mqtt.tls.certificate.is_some() && !has_tls {
        r.warn("mqtt.tls.certificate", "set, but no TLS listener is on");
    }
}
