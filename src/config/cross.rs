//! What settings say about each other.

use std::net::SocketAddr;

use super::mistake::Problem;
use super::reader::Reader;
use super::{CommandQueue, Config, RegistrySource, UplinkQueue};
use crate::protocol::librdkafka::{canonical, reason_against};

/// The record size that Kafka and NATS take unless configured otherwise, in bytes.
const QUEUE_RECORD_BYTES: usize = 1_000_000;

/// Fewer bytes than this are worth a warning.
const SECRET_BYTES: usize = 16;

/// Adds the mistakes and warnings that no key shows alone.
pub(super) fn check(config: &Config, r: &mut Reader<'_>) {
    check_needs(config, r);
    check_pairs(config, r);
    check_commands(config, r);
    check_tls(config, r);
    check_addresses(config, r);
    warn(config, r);
}

fn missing(r: &mut Reader<'_>, key: &str, is_there: bool, needed: &str) {
    // A value that was given and is wrong was reported already.
    if !is_there && !r.is_set_to_something(key) {
        r.mistake(key, Problem::Missing { needed: needed.to_owned() });
    }
}

fn check_needs(config: &Config, r: &mut Reader<'_>) {
    if config.registry.source == RegistrySource::File {
        missing(
            r,
            "registry.file.path",
            config.registry.file.is_some(),
            "registry.source = \"file\" needs the file of the devices",
        );
    }
    if config.registry.source == RegistrySource::Http {
        missing(r, "registry.http.url", config.registry.http.url.is_some(), "registry.source = \"http\" needs it");
    }
    if config.registry.http.url.as_ref().is_some_and(|url| url.expose().contains(['@', '?', '#'])) {
        let reason = "must not carry a user, a query or a fragment: the id of the device follows it, and \
                      registry.http.token is the way to say who asks";
        r.mistake("registry.http.url", Problem::Conflict { reason: reason.to_owned() });
    }
    let kafka = config.kafka.brokers.is_some();
    if config.uplink.queue == UplinkQueue::Kafka {
        missing(r, "kafka.brokers", kafka, "uplink.queue = \"kafka\" needs brokers");
    } else if config.commands.queue == CommandQueue::Kafka {
        missing(r, "kafka.brokers", kafka, "commands.queue = \"kafka\" needs brokers");
    }
    let users = [
        (config.uplink.queue == UplinkQueue::Nats, "uplink.queue"),
        (config.commands.queue == CommandQueue::Nats, "commands.queue"),
        (config.registry.source == RegistrySource::Nats, "registry.source"),
    ];
    if let Some((_, user)) = users.iter().find(|(uses, _)| *uses) {
        missing(r, "nats.servers", config.coordinates(), &format!("{user} = \"nats\" needs servers"));
    }
}

fn check_pairs(config: &Config, r: &mut Reader<'_>) {
    let (subjects, inboxes) = (&config.nats.prefix, &config.nats.inbox_prefix);
    if is_below(subjects, inboxes) || is_below(inboxes, subjects) {
        let reason = "must not be nats.prefix, nor above or below it: answers would be taken for messages".to_owned();
        r.mistake("nats.inbox_prefix", Problem::Conflict { reason });
    }
    let (certificate, key) = (&config.nats.tls_certificate, &config.nats.tls_private_key);
    missing_half(r, "nats.tls.certificate", certificate.is_some(), "nats.tls.private_key", key.is_some());
    let own = ["kafka.uplink_topic", "kafka.rejected_topic", "kafka.command_topic", "kafka.reply_topic"];
    let kafka = &config.kafka;
    if kafka.command_topic == kafka.uplink_topic
        || kafka.command_topic == kafka.rejected_topic
        || kafka.command_topic == kafka.reply_topic
    {
        let reason =
            format!("must differ from {}, {} and {}: the bridge would read what it writes", own[0], own[1], own[3]);
        r.mistake(own[2], Problem::Conflict { reason });
    }
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in &kafka.properties {
        let key = format!("kafka.properties.{name}");
        if let Some(reason) = reason_against(name) {
            r.mistake(&key, Problem::Conflict { reason: reason.to_owned() });
        } else if let Some(other) = names.iter().find(|other| canonical(other) == canonical(name)) {
            let reason = format!("the same as {other}, which is set too");
            r.mistake(&key, Problem::Conflict { reason });
        }
        names.push(name);
    }
}

fn check_commands(config: &Config, r: &mut Reader<'_>) {
    if config.commands.timeout > config.commands.timeout_max {
        let reason = "must not be shorter than commands.timeout".to_owned();
        r.mistake("commands.timeout_max", Problem::Conflict { reason });
    }
}

/// Whether a prefix of NATS subjects is another one, or begins with it.
fn is_below(prefix: &str, other: &str) -> bool {
    prefix.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn missing_half(r: &mut Reader<'_>, left: &str, has_left: bool, right: &str, has_right: bool) {
    if has_left != has_right {
        let (absent, present) = if has_left { (right, left) } else { (left, right) };
        missing(r, absent, false, &format!("{present} needs it"));
    }
}

fn check_tls(config: &Config, r: &mut Reader<'_>) {
    let tls = &config.mqtt.tls;
    missing_half(
        r,
        "mqtt.tls.certificate",
        tls.certificate.is_some(),
        "mqtt.tls.private_key",
        tls.private_key.is_some(),
    );
    let user = [("mqtt.tls.listen", &tls.listen), ("mqtt.websocket_tls.listen", &config.mqtt.websocket_tls.listen)]
        .into_iter()
        .find(|(_, listen)| !listen.is_empty());
    if let (Some((user, _)), None, None) = (user, &tls.certificate, &tls.private_key) {
        missing(r, "mqtt.tls.certificate", false, &format!("{user} needs it"));
        missing(r, "mqtt.tls.private_key", false, &format!("{user} needs it"));
    }
    let dtls = &config.dtls;
    if !dtls.listen.is_empty() {
        missing(r, "dtls.certificate", dtls.certificate.is_some(), "dtls.listen needs it");
        missing(r, "dtls.private_key", dtls.private_key.is_some(), "dtls.listen needs it");
    }
}

/// Two listeners of TCP on one address: the second could not be bound. Port 0 is any that is free.
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
    for (key, addresses) in listeners {
        for &address in addresses {
            match taken.iter().find(|(_, other)| *other == address && address.port() != 0) {
                Some((other, _)) => {
                    r.mistake(key, Problem::Conflict { reason: format!("{address} is that of {other}") });
                }
                None => taken.push((key, address)),
            }
        }
    }
}

fn warn(config: &Config, r: &mut Reader<'_>) {
    if config.commands.queue == CommandQueue::Kafka && !config.coordinates() {
        r.warn(
            "commands.queue",
            "\"kafka\" without nats.servers: every replica reads every command from the end of the topic, \
             and a command for a device that no replica holds gets no outcome",
        );
    }
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
    if !listens(config) {
        r.warn("mqtt.listen", "no listener is on: no device can connect");
    }
    if config.registry.source == RegistrySource::Http && config.registry.product_secrets {
        r.warn("registry.product_secrets", "counts for nothing with registry.source = \"http\": a record tells all");
    }
    let outside = config.admin.listen.iter().any(|address| !address.ip().is_loopback());
    if outside && config.admin.token.is_none() {
        r.warn("admin.token", "not set, and admin.listen is not loopback: /api answers 403 there");
    }
    let tracing = ["tracing.sample_ratio", "tracing.service_name"].into_iter().find(|key| r.is_set(key));
    if let (Some(key), None) = (tracing, &config.tracing.endpoint) {
        r.warn(key, "set, but tracing.endpoint is not: tracing is off");
    }
    let shown = [
        (config.kafka.brokers.is_some() && !config.uses_kafka(), "kafka.brokers", "set, but no queue is \"kafka\""),
        (
            config.mqtt.tls.certificate.is_some()
                && config.mqtt.tls.listen.is_empty()
                && config.mqtt.websocket_tls.listen.is_empty(),
            "mqtt.tls.certificate",
            "set, but no TLS listener is on",
        ),
    ];
    for (_, key, text) in shown.into_iter().filter(|(is_odd, ..)| *is_odd) {
        r.warn(key, text);
    }
}

/// Whether any listener is on.
fn listens(config: &Config) -> bool {
    let mqtt = &config.mqtt;
    let listeners = [
        &mqtt.listen,
        &mqtt.tls.listen,
        &mqtt.websocket.listen,
        &mqtt.websocket_tls.listen,
        &config.coap.listen,
        &config.dtls.listen,
    ];
    listeners.iter().any(|listen| !listen.is_empty())
}
