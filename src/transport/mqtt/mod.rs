//! MQTT over TCP, TLS and WebSocket.
//!
//! A connection goes through [`opening`] and [`handshake`] to a session, which [`connection`] then drives until it ends.

mod connection;
mod door;
mod handshake;
pub mod listener;
mod opening;
pub mod upgrade;

use tokio::net::TcpListener;

pub use door::{Door, Upgrade};

/// A listener, and what it speaks below MQTT.
#[derive(Debug)]
pub struct Listening {
    /// Where connections are accepted.
    pub listener: TcpListener,
    /// What they speak.
    pub door: Door,
}
