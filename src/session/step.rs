//! Steps of messages, commands and sessions, for operators who follow a device. Told only while somebody follows any.

use std::net::SocketAddr;

use crate::codec::coap;
use crate::codec::mqtt::{PacketId, Qos};
use crate::protocol::command::CommandIdentity;
use crate::protocol::downlink::Code;
use crate::protocol::uplink::Record;
use crate::session::coap::Refused;
use crate::session::mqtt::Ending;

/// A step, and the devices that it concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'a> {
    /// Product of the connected device; empty where it is not known: over CoAP until the request is authenticated.
    pub product: &'a str,
    /// The connected device; empty for a heartbeat.
    pub device: &'a str,
    /// The device that it is about: a child, or the connected device itself.
    pub about: &'a str,
    /// The rest.
    pub action: Action<'a>,
}

/// The part of a step that depends on its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// A session begins.
    Connect {
        /// Its ULID.
        session: &'a str,
        /// Protocol version of the CONNECT.
        version: &'static str,
        /// Keep-alive of the CONNECT.
        keep_alive_secs: u16,
    },
    /// A request over CoAP was refused.
    RefuseRequest(Refused<'a>),
    /// A CONNECT was refused.
    Refuse {
        /// The reason in one word.
        reason: &'static str,
        /// The mistake in words, for people; empty where the reason says all.
        detail: &'a str,
    },
    /// A filter of a SUBSCRIBE.
    Subscribe {
        /// The filter.
        filter: &'a str,
        /// The QoS of what follows; `None`: it is not kept, as it is no topic of the device.
        granted: Option<Qos>,
    },
    /// A filter of an UNSUBSCRIBE.
    Unsubscribe {
        /// The filter.
        filter: &'a str,
    },
    /// A message of the device.
    Publish {
        /// Its topic.
        topic: &'a str,
        /// How it came.
        by: Carrier,
        /// Its payload, decrypted; `None`: it is larger than what is read.
        payload: Option<&'a [u8]>,
    },
    /// A message on the topic of another device, which ends the session.
    Foreign {
        /// The topic.
        topic: &'a str,
    },
    /// The question for the time is answered.
    TimeSync,
    /// An envelope is handed to the queue.
    Envelope(&'a Record),
    /// The queue has an envelope, and the device its acknowledgement.
    Stored {
        /// The envelope.
        record: &'a Record,
        /// From its receipt to its acknowledgement, us.
        latency_us: u64,
        /// From handing it over to the queue's receipt, us.
        queue_us: u64,
        /// The acknowledgement.
        answer: StoredAnswer,
    },
    /// Messages were given up: the queue did not acknowledge them in time.
    GivenUp {
        /// How many.
        messages: usize,
    },
    /// A request over CoAP is answered without an envelope.
    Respond(coap::Code),
    /// A command for the device is here.
    Command(&'a CommandIdentity),
    /// A command is written to the device.
    Send {
        /// The command.
        identity: &'a CommandIdentity,
        /// Topic of the packet.
        topic: &'a str,
        /// QoS of the packet.
        qos: Qos,
        /// Payload of the packet.
        payload: &'a [u8],
    },
    /// A command has its outcome.
    Outcome {
        /// The command.
        identity: &'a CommandIdentity,
        /// The bridge's word; `None`: the device answered.
        code: Option<Code>,
        /// Text of a failure.
        text: &'a str,
        /// From its receipt, us.
        latency_us: u64,
    },
    /// The session ended.
    Disconnect(Ending),
}

/// The other end of a connection, or of an exchange over CoAP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer<'a> {
    /// An address as text; empty where there is no connection.
    Text(&'a str),
    /// An address; `None` where it is not known any more.
    Address(Option<SocketAddr>),
}

impl Peer<'_> {
    /// The address, as far as it is known.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Peer::Text(text) => text.parse().ok(),
            Peer::Address(address) => address,
        }
    }

    /// The same as text.
    pub fn text(self) -> Option<String> {
        match self {
            Peer::Text(text) => (!text.is_empty()).then(|| text.to_owned()),
            Peer::Address(address) => address.map(|address| address.to_string()),
        }
    }
}

/// The packet that carried a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// A PUBLISH.
    Publish(Qos, Option<PacketId>),
    /// The will of the CONNECT.
    Will,
    /// A request over CoAP.
    Coap,
}

/// The acknowledgement that a device gets of a stored message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredAnswer {
    /// None: QoS 0, presence, or its session has ended.
    None,
    /// PUBACK.
    Puback(PacketId),
    /// PUBREC.
    Pubrec(PacketId),
    /// A response over CoAP.
    Coap(coap::Code),
}
