//! The client protocol of NATS, as far as one connection that publishes records needs it: bytes to operations of the
//! server, operations of a client to bytes. Nothing here does I/O.
//!
//! <https://docs.nats.io/reference/reference-protocols/nats-protocol>

pub(super) mod format;
mod parse;

pub use self::parse::{Delivery, LINE_BYTES_MAX, MESSAGE_BYTES_MAX, ServerOp, WireError, parse};
