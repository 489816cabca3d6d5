//! Checks of the fuzz targets. Each module has one function, `check`, which takes any bytes and panics when a rule is
//! broken; the targets only call it. `tests/fuzz.rs` of the bridge is made of the same modules: it runs the rules over all
//! seeds, and over what a few changes make of them.
//!
//! `cargo run --manifest-path fuzz/Cargo.toml --bin seeds` fills `fuzz/corpus` with the seeds; `make fuzz` does so before it
//! runs the targets.

pub mod claim;
pub mod coap_decode;
pub mod coap_operations;
pub mod command;
pub mod connect;
#[cfg(feature = "bridge")]
pub mod dtls_datagrams;
pub mod mqtt_decode;
#[cfg(feature = "bridge")]
pub mod nats_acknowledgement;
#[cfg(feature = "bridge")]
pub mod nats_operations;
pub mod operations;
pub mod proxy_header;
#[cfg(feature = "bridge")]
pub mod registry_record;
pub mod seeds;
pub mod session_operations;
pub mod topic_and_message;
pub mod websocket_frames;
#[cfg(feature = "bridge")]
pub mod websocket_request;
pub mod world;

/// A check.
pub type Check = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: &[(&str, Check)] = &[
    ("claim", claim::check),
    ("coap_decode", coap_decode::check),
    ("coap_operations", coap_operations::check),
    ("command", command::check),
    ("connect", connect::check),
    #[cfg(feature = "bridge")]
    ("dtls_datagrams", dtls_datagrams::check),
    ("mqtt_decode", mqtt_decode::check),
    #[cfg(feature = "bridge")]
    ("nats_acknowledgement", nats_acknowledgement::check),
    #[cfg(feature = "bridge")]
    ("nats_operations", nats_operations::check),
    ("proxy_header", proxy_header::check),
    #[cfg(feature = "bridge")]
    ("registry_record", registry_record::check),
    ("session_operations", session_operations::check),
    ("topic_and_message", topic_and_message::check),
    ("websocket_frames", websocket_frames::check),
    #[cfg(feature = "bridge")]
    ("websocket_request", websocket_request::check),
];
