//! Devices that speak MQTT.
//!
//! [`Client`] is the device without I/O, `link` its socket, with TLS or without, and [`Connection`] moves bytes between the two.

mod client;
mod connection;
mod link;
mod responder;
mod window;

pub(super) use client::Client;
pub(super) use connection::Connection;
pub use link::AnyServer;
pub(super) use link::Encryption;
