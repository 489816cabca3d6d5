//! MQTT over TCP, TLS and WebSocket.
//!
//! A connection goes through [`opening`] and [`handshake`] to a session, which [`connection`] then drives until it ends.

mod connection;
mod handshake;
pub mod listener;
mod opening;
mod serving;
pub mod upgrade;

use std::sync::Arc;

use tokio::net::TcpListener;

use crate::transport::tls::TlsServer;
use crate::transport::traits::TransportKind;

/// A listener with the protocols that it speaks.
#[derive(Debug)]
pub struct Listening {
    /// The listener.
    pub listener: TcpListener,
    /// The protocols.
    pub protocol: ListenerProtocol,
}

/// The protocols of a listener below MQTT. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ListenerProtocol {
    /// TLS, when it does.
    pub tls: Option<TlsServer>,
    /// WebSocket, when it does.
    pub websocket: Option<Arc<Upgrade>>,
}

/// The requests for a WebSocket that are granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// Their path.
    pub path: Box<str>,
    /// The origins that their pages may have, in lower case; none: any. A request without one is of no page.
    pub origins: Box<[Box<str>]>,
}

impl ListenerProtocol {
    /// How devices come that use it.
    pub fn kind(&self) -> TransportKind {
        match (&self.tls, &self.websocket) {
            (None, None) => TransportKind::Tcp,
            (Some(_), None) => TransportKind::Tls,
            (None, Some(_)) => TransportKind::WebSocket,
            (Some(_), Some(_)) => TransportKind::WebSocketTls,
        }
    }
}
