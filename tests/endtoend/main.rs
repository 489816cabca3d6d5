//! Devices, the real bridge and real queues together: what a platform finds, what a caller hears, what an outage costs.
#![expect(clippy::disallowed_methods, reason = "tests own the clock")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod balance;
mod caller;
mod check;
mod children;
mod cluster;
mod coap;
mod command;
mod descriptors;
mod end;
mod fleet;
mod follow;
mod kafka_brokers;
mod kafka_causes;
mod kafka_commands;
mod kafka_limits;
mod kafka_security;
mod kafka_slow;
mod lifecycle;
mod log;
mod memory;
mod nats_connections;
mod nats_leaving;
mod nats_refusals;
mod nats_security;
mod nats_stream;
mod operators;
mod outage;
mod packed;
mod partition;
mod presence;
mod replicas;
mod report;
mod rolling;
mod rolling_kafka;
mod secrets;
mod tail;
mod takeover;
mod traces;
