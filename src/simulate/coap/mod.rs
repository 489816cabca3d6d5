//! Devices that speak CoAP: one CON at a time, sent again until it is answered.
//!
//! [`Client`] is the device without I/O, `link` its socket with the DTLS session on it, and [`Connection`] moves messages between the two.

mod client;
mod connection;
mod link;

pub(super) use client::Client;
pub(super) use connection::Connection;

use openssl::error::ErrorStack;

use super::plan::Transport;
use crate::transport::dtls::{self, DatagramBuffer};

/// How devices prove who they are; cheap to clone.
#[derive(Debug, Clone)]
pub(super) enum Security {
    /// The body is encrypted.
    Aes,
    /// A DTLS session and a token.
    Dtls(dtls::Client, DatagramBuffer),
}

impl Security {
    /// Security of a transport; `None` for MQTT.
    ///
    /// # Errors
    /// OpenSSL has no DTLS.
    pub(super) fn new(transport: Transport) -> Result<Option<Self>, ErrorStack> {
        Ok(match transport {
            Transport::Mqtt | Transport::Mqtts => None,
            Transport::Coap => Some(Security::Aes),
            Transport::Dtls => Some(Security::Dtls(dtls::Client::new()?, DatagramBuffer::default())),
        })
    }
}
