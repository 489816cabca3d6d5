//! The JetLinks official protocol, without I/O, clock or randomness: all three are arguments.

pub mod address;
pub mod auth;
pub mod child;
pub mod claim;
pub mod clock;
pub mod coap;
pub mod command;
pub mod downlink;
pub mod envelope;
pub mod explain;
pub mod filter;
pub mod id;
pub mod inbound;
pub mod json;
pub mod librdkafka;
pub mod limit;
pub mod message;
pub mod network;
pub mod printable;
pub mod random;
pub mod secret;
pub mod session;
pub mod topic;
pub mod trace;
pub mod ulid;
pub mod uplink;
