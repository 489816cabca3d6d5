//! Mistakes and warnings that concern more than one section: contradictions are mistakes, and settings that work but are
//! likely to be unintended are warnings.

use std::net::SocketAddr;

use strsim::levenshtein;

use super::reader::Reader;
use super::{CommandQueue, Config, RegistrySource, UplinkQueue};

/// The record size that Kafka and NATS take unless configured otherwise, in bytes.
const QUEUE_RECORD_BYTES: usize = 1_000_000;

/// Most that an envelope has beside its message, in bytes.
const ENVELOPE_BYTES: usize = 4_096;

/// Name of the bridge in the log, in front of its modules.
const OWN_TARGET: &str = "jetlinks_bridge";

/// Modules of the bridge that write to the log.
const OWN_MODULES: [&str; 10] =
    ["app", "cli", "codec", "config", "protocol", "queue", "registry", "replica", "telemetry", "transport"];

/// Libraries that write to the log.
const LOGGING_LIBRARIES: [&str; 5] = ["async_nats", "h2", "hyper", "hyper_util", "tokio"];

/// Port on which collectors take OTLP over gRPC, which the bridge does not speak.
const OTLP_GRPC_PORT: &str = ":4317";

/// A secret with fewer bytes than this gets a warning.
const SECRET_BYTES_MIN: usize = 16;

/// Adds the mistakes and warnings that no section finds alone.
pub(super) fn check(config: &Config, reader: &mut Reader<'_>) {
    check_servers(config, reader);
    check_addresses(config, reader);
    warn_of_log(config, reader);
    warn_of_secrets(config, reader);
    warn_of_limits(config, reader);
    warn_of_unused(config, reader);
}

fn check_servers(config: &Config, reader: &mut Reader<'_>) {
    let (uplink, commands) = (config.uplink.queue, config.commands.queue);
    let kafka = [("uplink.queue", uplink == UplinkQueue::Kafka), ("commands.queue", commands == CommandQueue::Kafka)];
    let nats = [
        ("uplink.queue", uplink == UplinkQueue::Nats),
        ("commands.queue", commands == CommandQueue::Nats),
        ("registry.source", config.registry.source == RegistrySource::Nats),
    ];
    if let Some((user, _)) = kafka.iter().find(|(_, uses)| *uses) {
        reader.missing("kafka.brokers", config.kafka.brokers.is_some(), format!("{user} = \"kafka\" needs brokers"));
    }
    if let Some((user, _)) = nats.iter().find(|(_, uses)| *uses) {
        reader.missing("nats.servers", config.has_nats_servers(), format!("{user} = \"nats\" needs servers"));
    }
}

/// Refuses two listeners on one address: the second could not be bound. Port 0 stands for any free port, so it may come twice.
fn check_addresses(config: &Config, reader: &mut Reader<'_>) {
    let mqtt = &config.mqtt;
    let tcp = [
        ("mqtt.listen", &mqtt.listen),
        ("mqtt.tls.listen", &mqtt.tls.listen),
        ("mqtt.websocket.listen", &mqtt.websocket.listen),
        ("mqtt.websocket_tls.listen", &mqtt.websocket_tls.listen),
        ("admin.listen", &config.admin.listen),
    ];
    let udp = [("coap.listen", &config.coap.listen), ("dtls.listen", &config.dtls.listen)];
    check_distinct(&tcp, reader);
    check_distinct(&udp, reader);
}

/// Refuses two listeners on one address among those of TCP, or those of UDP.
fn check_distinct(listeners: &[(&'static str, &Vec<SocketAddr>)], reader: &mut Reader<'_>) {
    let mut taken: Vec<(&str, SocketAddr)> = Vec::new();
    for (key, &address) in listeners.iter().flat_map(|(key, all)| all.iter().map(move |address| (*key, address))) {
        match taken.iter().find(|(_, other)| *other == address && address.port() != 0) {
            Some((other, _)) => reader.invalid(key, format!("{address} is that of {other}")),
            None => taken.push((key, address)),
        }
    }
}

/// Warns of each level in `log.level` that is for a module which never writes to the log.
fn warn_of_log(config: &Config, reader: &mut Reader<'_>) {
    for target in config.log.level.split(',').filter_map(|part| Some(part.split_once('=')?.0)) {
        let mut names = target.split("::");
        let (program, module) = (names.next().unwrap_or_default(), names.next());
        let is_own = program == OWN_TARGET;
        let known: &[&str] = if is_own { &OWN_MODULES } else { &LOGGING_LIBRARIES };
        let wrong = if is_own { module.unwrap_or(OWN_MODULES[0]) } else { program };
        if known.contains(&wrong) {
            continue;
        }
        let libraries = LOGGING_LIBRARIES.iter().map(|name| (*name).to_owned());
        let modules = OWN_MODULES.iter().map(|name| format!("{OWN_TARGET}::{name}"));
        let meant =
            libraries.chain([OWN_TARGET.to_owned()]).chain(modules).min_by_key(|name| levenshtein(name, target));
        let meant = meant.unwrap_or_default();
        reader.warn("log.level", format!("no line of the log is from {target}, did you mean {meant}?"));
    }
}

fn warn_of_secrets(config: &Config, reader: &mut Reader<'_>) {
    let secrets = &config.dtls.token_secret;
    if !config.dtls.listen.is_empty() && secrets.is_empty() {
        reader.warn(
            "dtls.token_secret",
            "not set, so made at start: tokens hold on the replica alone that gave them out, and until it ends",
        );
    }
    if secrets.iter().any(|secret| secret.expose().len() < SECRET_BYTES_MIN) {
        reader.warn("dtls.token_secret", "shorter than 16 bytes: who guesses it can make tokens for every device");
    }
    if !config.coap.listen.is_empty() && config.coap.direct {
        reader.warn(
            "coap.direct",
            "on: of 256 `direct` messages that a stranger makes up for a device, one is taken for its own",
        );
    }
    if config.nats.claim_secret.iter().any(|secret| secret.expose().len() < SECRET_BYTES_MIN) {
        reader.warn("nats.claim_secret", "shorter than 16 bytes: who guesses it can end the session of every device");
    }
    if config.mqtt.tls.ticket_key.secrets().iter().any(|secret| secret.expose().len() < SECRET_BYTES_MIN) {
        reader.warn(
            "mqtt.tls.ticket_key",
            "shorter than 16 bytes: who guesses it can read what resumed sessions over TLS 1.2 say",
        );
    }
    if config.admin.token.as_ref().is_some_and(|token| token.expose().len() < SECRET_BYTES_MIN) {
        reader.warn("admin.token", "shorter than 16 bytes: who guesses it can end the session of every device");
    }
    let outside = config.admin.listen.iter().any(|address| !address.ip().is_loopback());
    if outside && config.admin.token.is_none() {
        reader.warn("admin.token", "not set, and admin.listen is not loopback: /api answers 403 there");
    }
}

fn warn_of_limits(config: &Config, reader: &mut Reader<'_>) {
    let limits = &config.limits;
    if limits.packet_bytes.saturating_mul(4) > limits.inflight_bytes {
        reader.warn(
            "limits.inflight_bytes",
            "less than four times limits.packet_bytes: a single large message stops all reading",
        );
    }
    // The largest envelope carries the packet in base64.
    let envelope_bytes = limits.packet_bytes.saturating_mul(4) / 3 + ENVELOPE_BYTES;
    if config.uplink.queue != UplinkQueue::Stdio && envelope_bytes > QUEUE_RECORD_BYTES {
        reader.warn(
            "limits.packet_bytes",
            "an envelope of such a packet can be over the 1 MB that Kafka and NATS take unless configured otherwise",
        );
    }
}

fn warn_of_unused(config: &Config, reader: &mut Reader<'_>) {
    let (mqtt, registry) = (&config.mqtt, &config.registry);
    if config.commands.queue == CommandQueue::Kafka && !config.has_nats_servers() {
        reader.warn(
            "commands.queue",
            "\"kafka\" without nats.servers: every replica reads every command from the end of the topic, \
             and a command for a device that no replica holds gets no outcome",
        );
    }
    let has_plain = !mqtt.listen.is_empty() || !mqtt.websocket.listen.is_empty();
    let has_tls = !mqtt.tls.listen.is_empty() || !mqtt.websocket_tls.listen.is_empty();
    let has_coap = !config.coap.listen.is_empty() || !config.dtls.listen.is_empty();
    if !has_plain && !has_tls && !has_coap {
        reader.warn("mqtt.listen", "no listener is on: no device can connect");
    }
    if registry.source == RegistrySource::Http && registry.product_secrets {
        reader
            .warn("registry.product_secrets", "counts for nothing with registry.source = \"http\": a record tells all");
    }
    let tracing = ["tracing.sample_ratio", "tracing.service_name"].into_iter().find(|key| reader.is_set(key));
    if let (Some(key), None) = (tracing, &config.tracing.endpoint) {
        reader.warn(key, "set, but tracing.endpoint is not: tracing is off");
    }
    let endpoint = config.tracing.endpoint.as_ref().map(|url| url.expose().trim_end_matches('/'));
    if endpoint.is_some_and(|endpoint| endpoint.ends_with(OTLP_GRPC_PORT)) {
        reader
            .warn("tracing.endpoint", "4317 is the port of OTLP over gRPC; the bridge speaks HTTP, whose port is 4318");
    }
    if config.kafka.brokers.is_some() && !config.uses_kafka() {
        reader.warn("kafka.brokers", "set, but no queue is \"kafka\"");
    }
    if mqtt.tls.certificate.is_some() && !has_tls {
        reader.warn("mqtt.tls.certificate", "set, but no TLS listener is on");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::config::{Sources, examine};

    /// Warnings of these settings over a good configuration.
    fn warnings(settings: &[&str]) -> Vec<String> {
        let settings = ["registry.file.path=d"].iter().chain(settings).map(|text| (*text).to_owned()).collect();
        let (loaded, mistakes) = examine(&Sources { settings, ..Sources::default() });
        assert_eq!(mistakes, [], "{settings:?}", settings = loaded.resolved);
        loaded.warnings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_level_for_what_writes_nothing_to_the_log_gets_a_warning() {
        for well in ["info,async_nats=debug", "debug", "info,jetlinks_bridge=debug,jetlinks_bridge::transport=trace"] {
            assert_eq!(warnings(&[&format!("log.level={well}")]), Vec::<String>::new(), "{well}");
        }
        for (wrong, meant) in [
            ("info,jetlinks_brige=debug", "jetlinks_brige, did you mean jetlinks_bridge?"),
            ("jetlinks_bridge::transprot=debug", "transprot, did you mean jetlinks_bridge::transport?"),
            ("info,asyncnats=debug", "asyncnats, did you mean async_nats?"),
        ] {
            let told = warnings(&[&format!("log.level={wrong}")]);
            assert!(told.len() == 1 && told[0].contains(meant), "{wrong}: {told:?}");
        }
    }

    #[test]
    fn every_module_of_the_bridge_that_writes_to_the_log_is_known() {
        fn writes(path: &Path) -> bool {
            if path.is_dir() {
                return fs::read_dir(path).unwrap().any(|entry| writes(&entry.unwrap().path()));
            }
            let text = fs::read_to_string(path).unwrap_or_default();
            ["trace!(", "debug!(", "info!(", "warn!(", "error!("]
                .iter()
                .any(|name| text.contains(&format!("tracing::{name}")))
        }
        for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap() {
            let path = entry.unwrap().path();
            let module = path.file_stem().unwrap().to_string_lossy().into_owned();
            assert!(module == "main" || !writes(&path) || OWN_MODULES.contains(&module.as_str()), "{module}");
        }
    }

    #[test]
    fn settings_that_work_and_help_nobody_get_a_warning() {
        for (setting, start) in [
            ("admin.token=short", "admin.token: shorter than 16 bytes"),
            ("tracing.endpoint=http://otel:4317", "tracing.endpoint: 4317 is the port of OTLP over gRPC"),
            ("tracing.endpoint=http://otel:4317/", "tracing.endpoint: 4317"),
        ] {
            let told = warnings(&[setting]);
            assert!(told.len() == 1 && told[0].starts_with(start), "{setting}: {told:?}");
        }
        assert_eq!(
            warnings(&["admin.token=0123456789abcdef", "tracing.endpoint=http://otel:4318"]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_variable_that_counts_for_nothing_gets_a_warning() {
        let environment = ["JETLINKS_BRIDGE_LOG_LEVEL", "jetlinks_bridge__drain__rate", "JETLINKS_BRIDGE_SERVICE_HOST"]
            .map(|name| (name.to_owned(), "1".to_owned()));
        let (loaded, _) = examine(&Sources { environment: environment.into(), ..Sources::default() });
        assert!(loaded.built_in, "a slip switches nothing off");
        let told: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        let expected = [
            ("JETLINKS_BRIDGE_LOG_LEVEL: ", "did you mean JETLINKS_BRIDGE__LOG__LEVEL?"),
            ("jetlinks_bridge__drain__rate: ", "did you mean JETLINKS_BRIDGE__DRAIN__RATE?"),
        ];
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for ((start, end), told) in expected.iter().zip(&told) {
            assert!(told.starts_with(start) && told.ends_with(end), "{told}");
        }
    }

    #[test]
    fn a_variable_that_switches_the_built_in_configuration_off_is_named_where_something_is_missing() {
        let environment = [("JETLINKS_BRIDGE__LOG__LEVEL".to_owned(), "debug".to_owned())].into();
        let (_, mistakes) = examine(&Sources { environment, ..Sources::default() });
        let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("registry.file.path: not set, but"), "{told:?}");
        assert!(told[0].contains("JETLINKS_BRIDGE__LOG__LEVEL is set: name it as a file, --config"), "{told:?}");
    }

    #[test]
    fn two_listeners_of_datagrams_cannot_have_one_address() {
        let settings = ["registry.file.path=d", "coap.listen=127.0.0.1:5683", "dtls.listen=127.0.0.1:5683"];
        let pair = ["dtls.certificate=a.pem", "dtls.private_key=b.pem"];
        let settings = settings.iter().chain(&pair).map(|text| (*text).to_owned()).collect();
        let (_, mistakes) = examine(&Sources { settings, ..Sources::default() });
        let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["dtls.listen: 127.0.0.1:5683 is that of coap.listen (--set dtls.listen)"]);
    }
}
