//! How devices load a server.

use std::fmt;
use std::str::FromStr;

/// Protocol of the devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Transport {
    /// MQTT over TCP.
    Mqtt,
    /// MQTT over TLS.
    Mqtts,
    /// CoAP with encrypted bodies.
    Coap,
    /// CoAP over DTLS.
    Dtls,
}

impl Transport {
    /// Its name, as `simulate` knows it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Transport::Mqtt => "mqtt",
            Transport::Mqtts => "mqtts",
            Transport::Coap => "coap",
            Transport::Dtls => "dtls",
        }
    }

    /// Section of its listener in the configuration.
    pub(crate) fn section(self) -> &'static str {
        match self {
            Transport::Mqtts => "mqtt.tls",
            other => other.name(),
        }
    }
}

/// A number of devices, each of which keeps that many messages unacknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Load {
    /// Their protocol.
    pub(crate) transport: Transport,
    /// Connections.
    pub(crate) devices: u32,
    /// Unacknowledged messages of each; 1 over CoAP.
    pub(crate) window: u16,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.transport {
            Transport::Mqtt => write!(f, "{} x {}", self.devices, self.window),
            Transport::Mqtts => write!(f, "mqtts {} x {}", self.devices, self.window),
            other => write!(f, "{} {} x 1", other.name(), self.devices),
        }
    }
}

impl FromStr for Load {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let devices = |text: &str| text.trim().parse().ok();
            if let Some(text) = text.strip_prefix("coap:") {
                return Some(Self { transport: Transport::Coap, devices: devices(text)?, window: 1 });
            }
            if let Some(text) = text.strip_prefix("dtls:") {
                return Some(Self { transport: Transport::Dtls, devices: devices(text)?, window: 1 });
            }
            let (transport, text) = match text.strip_prefix("mqtts:") {
                Some(text) => (Transport::Mqtts, text),
                None => (Transport::Mqtt, text),
            };
            let (text, window) = text.split_once('x')?;
            let window = window.trim().parse().ok()?;
            Some(Self { transport, devices: devices(text)?, window })
        };
        parse().ok_or_else(|| {
            "expected DEVICESxWINDOW, such as 100x20, mqtts: in front of it, coap:DEVICES, or dtls:DEVICES".to_owned()
        })
    }
}
