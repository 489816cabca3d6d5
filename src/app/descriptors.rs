//! File descriptors: the limit of the process, and the share of it that devices may take.
//!
//! Each connection of a device takes one descriptor. At the limit every freed descriptor would go to the next accepted
//! device, so that probes are not answered and NATS and Kafka are never reached again. So a reserve is kept for them.

use std::io;

use crate::config::{CommandQueue, Config, RegistrySource, UplinkQueue};
use crate::telemetry::admin;
use crate::transport::SocketBounds;

/// Standard streams, files that are read, signals, the runtime of the main thread.
const PROCESS: usize = 24;

/// The runtime of a worker.
const WORKER: usize = 4;

/// Connections of a worker to NATS: one for messages, one for commands, each beside the one that it replaces.
const NATS_PER_WORKER: usize = 4;

/// Connections of the replica to NATS: for claims, the registry, and commands that are handed over.
const NATS: usize = 8;

/// One client of Kafka: for each of 16 brokers a socket and a pipe.
const KAFKA_CLIENT: usize = 48;

/// Clients of Kafka for commands: a consumer, a producer, and one that makes topics.
const KAFKA_COMMANDS: usize = 3;

/// Connections to the registry behind HTTP beside one for each request: those that are being closed.
const REGISTRY_HTTP: usize = 8;

/// Export of spans.
const SPANS: usize = 4;

/// FileShare of the limit of open files that devices over TCP may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileShare {
    /// The limit.
    limit: u64,
    /// Kept for everything else.
    reserved: usize,
    /// For devices.
    pub bounds: SocketBounds,
}

/// Raises the soft limit of open files to the hard one and returns it. The soft one is often 1,024, for programs that use
/// select(2).
///
/// # Errors
/// The system's.
pub fn raise_limit() -> io::Result<u64> {
    rlimit::increase_nofile_limit(u64::MAX)
}

/// The limit that [`raise_limit`] would reach.
///
/// # Errors
/// The system's.
pub fn hard_limit() -> io::Result<u64> {
    rlimit::Resource::NOFILE.get_hard()
}

impl FileShare {
    /// Divides `limit`.
    pub fn of(limit: u64, config: &Config) -> Self {
        let reserved = reserve(config);
        let all = usize::try_from(limit).unwrap_or(usize::MAX);
        // With a limit below the reserve some devices are served all the same.
        let open = all.saturating_sub(reserved).max(all / 4);
        Self { limit, reserved, bounds: SocketBounds::new(open) }
    }

    /// Connections of devices that can be served at once.
    pub fn connections(&self, config: &Config) -> usize {
        let connections = config.limits.connections;
        if listens_on_tcp(config) { connections.min(self.bounds.served) } else { connections }
    }

    /// A warning when fewer devices can connect than `limits.connections` allows.
    pub fn warning(&self, config: &Config) -> Option<String> {
        let connections = config.limits.connections;
        (self.connections(config) < connections).then(|| {
            format!(
                "limits.connections: {connections}, but with at most {} open files, of which {} are kept for everything \
                 else, only {} devices can connect: more get CONNACK 0x03",
                self.limit, self.reserved, self.bounds.served
            )
        })
    }
}

/// Upper bound of the descriptors of everything but devices.
fn reserve(config: &Config) -> usize {
    let workers = config.runtime.workers;
    let (mqtt, admin) = (&config.mqtt, &config.admin.listen);
    let listeners: usize = [
        &mqtt.listen,
        &mqtt.tls.listen,
        &mqtt.websocket.listen,
        &mqtt.websocket_tls.listen,
        &config.coap.listen,
        &config.dtls.listen,
    ]
    .map(Vec::len)
    .iter()
    .sum();
    let when = |condition: bool, count: usize| if condition { count } else { 0 };
    let clients = when(config.uplink.queue == UplinkQueue::Kafka, workers)
        + when(config.commands.queue == CommandQueue::Kafka, KAFKA_COMMANDS);
    PROCESS
        + workers * (WORKER + listeners)
        + admin.len() * (1 + admin::CONNECTIONS_MAX)
        + when(config.has_nats_servers(), workers * NATS_PER_WORKER + NATS)
        + clients * KAFKA_CLIENT
        + when(config.registry.source == RegistrySource::Http, config.registry.http.concurrency + REGISTRY_HTTP)
        + when(config.tracing.endpoint.is_some(), SPANS)
}

fn listens_on_tcp(config: &Config) -> bool {
    let mqtt = &config.mqtt;
    let listeners = [&mqtt.listen, &mqtt.tls.listen, &mqtt.websocket.listen, &mqtt.websocket_tls.listen];
    listeners.iter().any(|addresses| !addresses.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Sources};

    fn config(settings: &[&str]) -> Config {
        let registry = "registry.file.path=/nowhere";
        let settings = settings.iter().chain(&[registry]).map(|text| (*text).to_owned()).collect();
        config::load(&Sources { settings, ..Sources::default() }).expect("a good configuration").config
    }

    #[test]
    fn devices_may_take_the_limit_without_the_reserve() {
        let config = config(&["limits.connections=1000"]);
        let share = FileShare::of(2_000, &config);
        assert_eq!(share.bounds.open, 2_000 - reserve(&config));
        assert_eq!((share.warning(&config), share.connections(&config)), (None, 1_000));
        let share = FileShare::of(1_024, &config);
        assert_eq!(share.connections(&config), share.bounds.served);
        assert!(share.bounds.served < share.bounds.open && share.bounds.open < 1_024, "{share:?}");
        let warning = share.warning(&config).expect("too few");
        assert!(warning.starts_with("limits.connections: 1000, but with at most 1024 open files"), "{warning}");
        assert!(warning.contains(&format!("only {} devices", share.bounds.served)), "{warning}");
    }

    #[test]
    fn everything_that_opens_connections_enlarges_the_reserve() {
        let bare = reserve(&config(&["coap.listen=", "admin.listen="]));
        let more = [
            vec!["coap.listen=127.0.0.1:1"],
            vec!["admin.listen=127.0.0.1:1"],
            vec!["nats.servers=nats://127.0.0.1:1"],
            vec!["uplink.queue=kafka", "kafka.brokers=127.0.0.1:1"],
            vec!["registry.source=http", "registry.http.url=http://127.0.0.1:1"],
            vec!["tracing.endpoint=http://127.0.0.1:1"],
            vec!["runtime.workers=2"],
        ];
        for settings in more {
            let with = reserve(&config(&[&["coap.listen=", "admin.listen="], &settings[..]].concat()));
            assert!(with > bare, "{settings:?}: {with} and {bare}");
        }
    }

    #[test]
    fn a_limit_below_the_reserve_leaves_some_for_devices() {
        let share = FileShare::of(40, &config(&[]));
        assert_eq!(share.bounds.open, 10);
        assert!(share.bounds.served > 0);
    }

    #[test]
    fn devices_without_tcp_need_no_descriptors() {
        let share = FileShare::of(40, &config(&["mqtt.listen="]));
        assert_eq!(share.warning(&config(&["mqtt.listen="])), None);
    }
}
