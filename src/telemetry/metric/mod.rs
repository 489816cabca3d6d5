//! Numbers for Prometheus.
//!
//! Each worker writes its own [`WorkerMetrics`] with plain loads and stores: no other thread writes there, so nothing
//! has to be locked or retried. A scrape reads all of them and adds up.

mod coap;
mod family;
mod histogram;
mod label;
mod pair;
mod process;
mod queue;
mod render;
mod scalar;
mod span;
mod worker;

#[cfg(test)]
mod tests;

pub use coap::{CoapCode, CoapDrop, CoapRefusal, HandshakeOutcome};
pub use family::{Family, Kind};
pub use histogram::Histogram;
pub use label::{
    CertificateUse, CloseCause, CommandOutcome, ConnectOutcome, ConnectionState, Label, MessageResult, RegistryAnswer,
    ReloadResult, Transport,
};
pub use pair::{CounterByTwo, GaugeByTwo};
pub use process::{
    CacheResult, CachedRecord, CertificateMetrics, ClaimFault, ClaimVerdict, CoordinationMetrics, LookupResult,
    RegistryMetrics,
};
pub use queue::{AnswerResult, HandOverFailure, KafkaCommandFate, LogLevel, ProcessMetrics, QueueResult};
pub use render::{CONTENT_TYPE, Metrics};
pub use scalar::{Counter, CounterBy, Gauge, GaugeBy, Seconds, TimeBy};
pub use span::{SpanMetrics, SpanOutcome};
pub use worker::WorkerMetrics;
