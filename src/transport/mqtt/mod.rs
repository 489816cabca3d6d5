//! MQTT over TCP.
//!
//! A connection goes through [`handshake`] to a session, which [`connection`] then drives until it ends.

pub mod connection;
mod handshake;
mod input;
pub mod listener;
