//! Numbers for Prometheus.
//!
//! Each worker writes its own [`WorkerMetrics`] with plain loads and stores: no other thread writes there, so nothing
//! has to be locked or retried. A scrape reads all of them and adds up.

mod coap;
mod family;
mod histogram;
mod label;
mod process;
mod render;
mod scalar;
mod worker;

#[cfg(test)]
mod tests;

pub use coap::{CoapCode, CoapDrop, CoapRefusal, HandshakeOutcome};
pub use family::{Family, Kind};
pub use histogram::Histogram;
pub use label::{
    CertificateUse, CloseCause, CommandOutcome, ConnectOutcome, Label, RegistryAnswer, ReloadResult, Transport,
};
pub use process::{CertificateMetrics, RegistryMetrics};
pub use render::{CONTENT_TYPE, Metrics};
pub use scalar::{Counter, CounterBy, Gauge, GaugeBy, TimeBy};
pub use worker::WorkerMetrics;
