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
    /// Who writes down what the connection tells.
    pub events: EventSink,
    /// Name of the bucket.
    pub bucket: String,
    /// Copies of the bucket in the cluster, where it has to be made.
    pub replicas: usize,
    /// Whether secrets of products count.
    pub product_secrets: bool,
}

/// Takes what a connection to NATS tells; by default nobody does.
#[derive(Clone)]
pub struct EventSink(Arc<dyn Fn(&Event) + Send + Sync>);

impl EventSink {
    /// One that calls `hear`, inside the runtime of the client.
    pub fn new(hear: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }

    pub(super) fn hear(&self, event: &Event) {
        (self.0)(event);
    }
}

impl Default for EventSink {
    fn default() -> Self {
        Self::new(|_| ())
    }
}

impl fmt::Debug for EventSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventSink")
    }
}
