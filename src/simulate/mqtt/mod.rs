//! Devices that speak MQTT.
//!
//! [`Client`] is the device without I/O, [`drive`] its light task, and `link` the connection, with TLS or without.

mod client;
mod driver;
mod link;
mod responder;
mod window;

pub(super) use client::{Client, Turn};
pub(super) use driver::drive;
pub(super) use link::Encryption;
