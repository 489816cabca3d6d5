//! Configurations of the bridge for tests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use super::{Cluster, Kafka, Nats, Registry};

/// A configuration, by its keys; every listener is on a free port of loopback or off.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    entries: BTreeMap<String, String>,
}

/// Workers of a bridge, where a test does not say how many: `TEST_WORKERS=3 cargo test` runs every test with three.
pub(crate) fn workers() -> usize {
    std::env::var("TEST_WORKERS").map_or(1, |workers| workers.parse().expect("TEST_WORKERS is a number"))
}

impl Settings {
    /// Device messages on stdout, commands on stdin.
    pub(crate) fn stdio(registry: &Registry) -> Self {
        Self::quiet(registry).text("uplink.queue", "stdio").text("commands.queue", "stdio")
    }

    /// Device messages into JetStream, commands from NATS.
    pub(crate) fn nats(registry: &Registry, nats: &Nats) -> Self {
        Self::quiet(registry)
            .text("uplink.queue", "nats")
            .text("commands.queue", "nats")
            .toml("nats.servers", &format!("[{:?}]", nats.url()))
    }

    /// Device messages on stdout, commands from NATS at that address.
    pub(crate) fn commands(registry: &Registry, url: &str) -> Self {
        Self::quiet(registry)
            .text("uplink.queue", "stdio")
            .text("commands.queue", "nats")
            .toml("nats.servers", &format!("[{url:?}]"))
    }

    /// Device messages into the stream that the servers of a cluster share, commands from there.
    pub(crate) fn cluster(registry: &Registry, cluster: &Cluster) -> Self {
        Self::quiet(registry)
            .text("uplink.queue", "nats")
            .text("commands.queue", "nats")
            .toml("nats.servers", &format!("{:?}", cluster.urls()))
            .toml("nats.stream.replicas", "3")
    }

    /// Listens for MQTT and for the admin page on ports that stay the same over restarts.
    pub(crate) fn fixed(self, mqtt: SocketAddr, admin: SocketAddr) -> Self {
        self.text("mqtt.listen", &mqtt.to_string()).text("admin.listen", &admin.to_string())
    }

    /// Device messages into Kafka, commands from nowhere.
    pub(crate) fn kafka(registry: &Registry, kafka: &Kafka) -> Self {
        Self::quiet(registry)
            .text("uplink.queue", "kafka")
            .text("commands.queue", "none")
            .text("kafka.brokers", &kafka.brokers())
    }

    fn quiet(registry: &Registry) -> Self {
        Self { entries: BTreeMap::new() }
            .toml("runtime.workers", &workers().to_string())
            .text("mqtt.listen", "127.0.0.1:0")
            .text("coap.listen", "")
            .text("admin.listen", "127.0.0.1:0")
            .text("registry.source", "file")
            .text("registry.file.path", &registry.path().display().to_string())
    }

    /// Sets a key to a text; durations and sizes are texts too.
    pub(crate) fn text(self, key: &str, value: &str) -> Self {
        self.toml(key, &format!("{value:?}"))
    }

    /// Sets a key to a value written as in the file.
    pub(crate) fn toml(mut self, key: &str, value: &str) -> Self {
        self.entries.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The configuration file.
    pub(crate) fn render(&self) -> String {
        self.entries.iter().fold(String::new(), |mut file, (key, value)| {
            let _ = writeln!(file, "{key} = {value}");
            file
        })
    }
}
