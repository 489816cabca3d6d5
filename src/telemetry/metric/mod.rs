//! Metrics for Prometheus.
//!
//! Each worker writes its own [`WorkerMetrics`] with plain loads and stores: no other thread writes there, so nothing
//! has to be locked or retried. A scrape reads all of them and adds up.

mod declare;
mod description;
mod family;
mod histogram;
mod label;
mod number;
mod process;
mod render;
mod sampled;
mod system;
mod worker;

#[cfg(test)]
mod tests;

pub use family::Family;
pub use histogram::Histogram;
pub use label::{
    AnswerResult, CacheResult, CachedRecord, CertificateUse, ClaimVerdict, CoapCode, CoapRefusal, CommandOutcome,
    ConnectOutcome, ConnectionState, HandOverFailure, HandshakeOutcome, KafkaCommandFate, Label, Labels, LogLevel,
    LookupResult, MessageResult, NatsRole, QueueResult, RegistryAnswer, ReloadResult, SpanOutcome, TlsHandshakeKind,
    Transport,
};
pub use number::{Counter, Gauge, Moment, Seconds, UsedGauge};
pub use process::{
    CertificateMetrics, CoordinationMetrics, KafkaMetrics, ProcessMetrics, RegistryMetrics, SpanMetrics,
};
pub use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
pub use render::Metrics;
pub use system::memory_limit;
pub use worker::WorkerMetrics;
