//! Devices that speak CoAP: one CON at a time, sent again until it is answered.
//!
//! [`Device`] is the device without I/O, [`drive`] its light task, and `link` its socket with the DTLS session on it.

mod device;
mod driver;
mod link;

pub(super) use device::Device;
pub(super) use driver::drive;

use openssl::error::ErrorStack;

use super::plan::Transport;
use crate::transport::dtls::{Client, Wire};

/// How devices prove who they are; cheap to clone.
#[derive(Debug, Clone)]
pub(super) enum Security {
    /// The body is encrypted.
    Aes,
    /// A DTLS session and a token.
    Dtls(Client, Wire),
}

impl Security {
    /// What a transport needs; `None` for MQTT.
    ///
    /// # Errors
    /// OpenSSL has no DTLS.
    pub(super) fn new(transport: Transport) -> Result<Option<Self>, ErrorStack> {
        Ok(match transport {
            Transport::Mqtt | Transport::Mqtts => None,
            Transport::Coap => Some(Security::Aes),
            Transport::Dtls => Some(Security::Dtls(Client::new()?, Wire::default())),
        })
    }
}
