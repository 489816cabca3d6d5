//! What the registry in NATS KV is told.

use std::fmt;
use std::sync::Arc;

use async_nats::{ConnectOptions, Event, ServerAddr};

/// Parameters of the registry in NATS KV.
#[derive(Debug, Clone)]
pub struct NatsRegistrySettings {
    /// Servers to start from; at least one.
    pub servers: Vec<ServerAddr>,
    /// How to connect: names, certificates, credentials, pauses between attempts.
    pub options: ConnectOptions,
    /// JetStream domain of the bucket; `None` is that of the servers themselves.
    pub domain: Option<String>,
    /// Who writes down what becomes of the connection.
    pub observer: Option<Arc<dyn ConnectionObserver>>,
    /// Name of the bucket.
    pub bucket: String,
    /// Copies of the bucket in the cluster, where it has to be made.
    pub replicas: usize,
    /// Whether secrets of products count.
    pub product_secrets: bool,
}

/// Writes down what becomes of a connection to NATS.
pub trait ConnectionObserver: fmt::Debug + Send + Sync {
    /// Takes what the client tells, inside its runtime.
    fn hear(&self, event: &Event);

    /// The connection will be left for another one, for that cause.
    fn leaves(&self, cause: &str);
}
