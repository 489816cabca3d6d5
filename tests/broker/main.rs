//! The queues against real servers: killed, restarted, deleted under way.

#[path = "../support/mod.rs"]
mod support;

mod kafka_caller;
mod kafka_commands;
mod kafka_group;
mod kafka_limits;
mod kafka_stage;
mod kafka_unreadable;
mod kafka_uplink;
mod log;
mod nats_access;
mod nats_breaks;
mod nats_cluster;
mod nats_commands;
mod nats_foreign;
mod nats_model;
mod nats_rights;
mod nats_streams_of_others;
mod nats_uplink;
mod sessions;
mod worker;
