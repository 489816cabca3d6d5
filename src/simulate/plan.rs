//! Parameters of a simulation.

use std::net::SocketAddr;
use std::time::Duration;

use clap::ValueEnum;

use crate::codec::mqtt::{Qos, Version};

/// Protocol that devices speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// MQTT over TCP.
    Mqtt,
    /// MQTT over TLS; any certificate of the server is taken.
    Mqtts,
    /// CoAP over UDP, each body encrypted with the device's key.
    Coap,
    /// CoAP over DTLS with a token; any certificate of the server is taken.
    Dtls,
}

/// Behaviour of every device of a simulation.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The bridge.
    pub address: SocketAddr,
    /// Protocol of the devices.
    pub transport: Transport,
    /// Without user name and password.
    pub anonymous: bool,
    /// Nanoseconds between two messages of a device; 0: no pause.
    pub interval_ns: u64,
    /// Level of what devices send.
    pub qos: Qos,
    /// Most unacknowledged messages of one device.
    pub window: usize,
    /// Messages of each device.
    pub count: u64,
    /// Version of MQTT.
    pub version: Version,
    /// Whether commands are answered.
    pub respond: bool,
    /// Level of the subscription to all commands, if any.
    pub subscribe: Option<Qos>,
    /// Whether a lost connection is made again.
    pub reconnect: bool,
    /// Nanoseconds between two connection attempts of any two devices.
    pub connect_interval_ns: u64,
    /// Keep-alive; 0: none.
    pub keep_alive_secs: u16,
}

/// Times at which a simulation goes on to its next phase.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Sending ends after this time; `None`: with the counts of all devices, or by a signal.
    pub duration: Option<Duration>,
    /// The measurement begins this long after the last device has connected; `None`: with the first connection.
    pub warmup: Option<Duration>,
    /// How long outstanding acknowledgements are waited for at the end.
    pub grace: Duration,
}

/// Form of the progress on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Not at all.
    Quiet,
    /// A line of text now and then.
    Text,
    /// A line that is written over, with the time that is left where the end is known.
    Bar,
    /// As JSON.
    Json,
}
