//! The JetLinks official protocol, without I/O, clock or randomness: all three are arguments.

pub mod address;
pub mod auth;
pub mod child;
pub mod cipher;
pub mod clock;
pub mod command;
pub mod downlink;
pub mod envelope;
pub mod explain;
pub mod filter;
pub mod id;
pub mod json;
pub mod librdkafka;
pub mod limit;
pub(crate) mod mac;
pub mod message;
pub mod network;
pub mod random;
pub mod secret;
pub mod shares;
pub mod topic;
pub mod trace;
pub mod translate;
pub mod ulid;
pub mod uplink;
