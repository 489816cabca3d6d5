//! What the registry in NATS KV is told.

use async_nats::{ConnectOptions, ServerAddr};

/// Parameters of the registry in NATS KV.
#[derive(Debug, Clone)]
pub struct NatsRegistrySettings {
    /// Servers to start from; at least one.
    pub servers: Vec<ServerAddr>,
    /// How to connect: names, certificates, credentials, pauses between attempts.
    pub options: ConnectOptions,
    /// JetStream domain of the bucket; `None` is that of the servers themselves.
    pub domain: Option<String>,
    /// Name of the bucket.
    pub bucket: String,
    /// Copies of the bucket in the cluster, where it has to be made.
    pub replicas: usize,
    /// Whether secrets of products count.
    pub product_secrets: bool,
}
