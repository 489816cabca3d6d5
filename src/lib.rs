//! Bridges devices that speak the JetLinks official protocol to Kafka, NATS or stdout.
//!
//! The promise: a message that the device saw acknowledged is in the queue.
//!
//! | module | what it is | I/O |
//! |---|---|---|
//! | [`protocol`] | topics, messages, envelopes, commands; and the traits of queues | none |
//! | [`session`] | state machines: the MQTT session, the CoAP endpoint | none |
//! | [`replica`] | which of several replicas holds a device | none |
//! | [`codec`] | packets of MQTT and CoAP, and headers of the PROXY protocol, to and from bytes | none |
//! | `transport` | the device side: listeners, connections, the workers that drive sessions | yes |
//! | `queue` | the platform side: Kafka, NATS, stdio | yes |
//! | `registry` | where credentials of devices come from | yes |
//! | `config` | configuration files, environment, `--set` | yes |
//! | `telemetry` | log, metrics, health | yes |
//! | `http` | the HTTP client of the registry and of the export of spans | yes |
//! | `memory` | gives freed memory back to the system | none |
//! | `app` | builds the parts from the configuration, joins them, ends them | yes |
//! | `simulate` | simulated devices, their ledger, and its comparison with the queue | yes |
//! | `cli` | the subcommands | yes |
//!
//! Without the feature `bridge` only what does no I/O exists, and nothing of tokio is linked.

pub mod codec;
pub mod protocol;
pub mod replica;
pub mod session;

#[cfg(feature = "bridge")]
pub mod app;
#[cfg(feature = "bridge")]
pub mod cli;
#[cfg(feature = "bridge")]
pub mod config;
#[cfg(feature = "bridge")]
mod http;
#[cfg(feature = "bridge")]
mod memory;
#[cfg(feature = "bridge")]
pub mod queue;
#[cfg(feature = "bridge")]
pub mod registry;
#[cfg(feature = "bridge")]
pub mod simulate;
#[cfg(feature = "bridge")]
pub mod telemetry;
#[cfg(feature = "bridge")]
pub mod transport;
