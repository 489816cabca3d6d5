//! Descriptions of metrics, and their encoding by the library of Prometheus.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;

/// First part of every name but the standard ones.
pub(super) const PREFIX: &str = "jetlinks_bridge";

/// Name, type, labels and meaning of a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Name without the prefix of the bridge; that of a counter ends with `_total`.
    pub name: &'static str,
    /// The type.
    pub kind: MetricType,
    /// Names of the labels, without `le`.
    pub labels: Vec<&'static str>,
    /// Text of HELP: one sentence.
    pub help: &'static str,
}

impl Description {
    /// Writes HELP and TYPE; the samples follow.
    pub(super) fn encode<'e>(&self, encoder: &'e mut DescriptorEncoder<'_>) -> Result<MetricEncoder<'e>, fmt::Error> {
        // The library appends it to the names of counters.
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        encoder.encode_descriptor(name, self.help, None, self.kind)
    }
}

/// A metric that one thread or several write.
pub(super) trait Metric: Default {
    /// The type.
    const KIND: MetricType;

    /// Names of the labels, without `le`.
    fn labels() -> Vec<&'static str>;

    /// Writes the samples: the sums over `parts`, each of which another thread writes.
    fn encode(parts: &[&Self], encoder: MetricEncoder<'_>) -> fmt::Result;
}
