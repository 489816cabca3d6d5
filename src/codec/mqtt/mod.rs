//! MQTT 3.1 and 3.1.1 packets, borrowed from the bytes they arrived in.
//!
//! [`frame`] finds where the next packet ends; [`decode`] reads one whole packet by the rules of a [`Version`],
//! [`decode_connect`] the first one, which names it; the functions of [`encode`] append packets to a buffer. No function panics on any input, none allocates for what a packet holds.

mod decode;
pub mod encode;
mod text;

use std::num::NonZeroU16;

use self::text::split_binary;
pub use decode::{Frame, Malformed, decode, decode_connect, frame, publish_head};

/// A packet identifier; never 0 (MQTT-2.3.1-1).
pub type PacketId = NonZeroU16;

/// Quality of service of a publication or a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Qos {
    /// No acknowledgement.
    AtMostOnce = 0,
    /// PUBACK.
    AtLeastOnce = 1,
    /// PUBREC, PUBREL, PUBCOMP.
    ExactlyOnce = 2,
}

impl Qos {
    /// The level that this number stands for; there is none above 2 (MQTT-3.3.1-4).
    pub fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Qos::AtMostOnce),
            1 => Some(Qos::AtLeastOnce),
            2 => Some(Qos::ExactlyOnce),
            _ => None,
        }
    }
}

/// The protocol version that a CONNECT asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1: name `MQIsdp`, level 3.
    V31,
    /// MQTT 3.1.1: name `MQTT`, level 4.
    V311,
}

/// Return code of a CONNACK (MQTT 3.1.1 table 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ConnectCode {
    /// Accepted.
    Accepted = 0,
    /// The version is not served.
    UnacceptableProtocolVersion = 1,
    /// The client id is not allowed.
    IdentifierRejected = 2,
    /// Try again later.
    ServerUnavailable = 3,
    /// The identity is refused.
    BadUserNameOrPassword = 4,
    /// Not allowed to connect.
    NotAuthorized = 5,
}

/// A control packet, in either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A client asks for a session.
    Connect(Connect<'a>),
    /// A CONNECT of a version other than 3.1 and 3.1.1; the rest of it was not read.
    ConnectOfOtherVersion,
    /// The answer to CONNECT: session present and the code as it came.
    Connack(bool, u8),
    /// A message.
    Publish(Publish<'a>),
    /// Acknowledges a QoS 1 message.
    Puback(PacketId),
    /// First acknowledgement of a QoS 2 message.
    Pubrec(PacketId),
    /// Releases a QoS 2 message.
    Pubrel(PacketId),
    /// Ends a QoS 2 exchange.
    Pubcomp(PacketId),
    /// Asks for subscriptions.
    Subscribe(PacketId, Filters<'a>),
    /// Granted QoS levels, one byte for each filter; 0x80 is a refusal.
    Suback(PacketId, &'a [u8]),
    /// Gives subscriptions up.
    Unsubscribe(PacketId, TopicFilters<'a>),
    /// Answers UNSUBSCRIBE.
    Unsuback(PacketId),
    /// Asks whether the server lives.
    Pingreq,
    /// The server lives.
    Pingresp,
    /// The client ends the session in good order.
    Disconnect,
}

/// CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    /// 3.1 or 3.1.1.
    pub version: Version,
    /// Start without stored state.
    pub clean_session: bool,
    /// Seconds of silence that the client allows itself; 0 is no limit of its own.
    pub keep_alive_secs: u16,
    /// The client's name; may be empty.
    pub client_id: &'a str,
    /// Message to publish when the connection ends without DISCONNECT.
    pub will: Option<Will<'a>>,
    /// User name and password, as far as given.
    pub credentials: Credentials<'a>,
}

/// User name and password of a CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// The user name.
    pub username: Option<&'a str>,
    /// The password: any bytes.
    pub password: Option<&'a [u8]>,
}

/// The will of a CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Will<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its payload.
    pub payload: &'a [u8],
    /// Its QoS.
    pub qos: Qos,
    /// The RETAIN flag.
    pub retain: bool,
}

/// Header of a PUBLISH: everything before its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishHead<'a> {
    /// A re-delivery, says the sender.
    pub dup: bool,
    /// The level.
    pub qos: Qos,
    /// The RETAIN flag.
    pub retain: bool,
    /// The topic; neither empty nor with wildcards.
    pub topic: &'a str,
    /// Present exactly when the level is above 0.
    pub packet_id: Option<PacketId>,
}

/// PUBLISH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// All but the payload.
    pub head: PublishHead<'a>,
    /// The message.
    pub payload: &'a [u8],
}

/// The filters of a SUBSCRIBE with the level asked for; checked when the packet was decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filters<'a>(&'a [u8]);

impl<'a> Iterator for Filters<'a> {
    type Item = (&'a str, Qos);

    fn next(&mut self) -> Option<Self::Item> {
        let (filter, rest) = split_binary(self.0)?;
        let (&bits, rest) = rest.split_first()?;
        self.0 = rest;
        // What is behind the two bits is 0, or of MQTT 3.1, which does not use it.
        Some((std::str::from_utf8(filter).ok()?, Qos::from_bits(bits & 3)?))
    }
}

/// The filters of an UNSUBSCRIBE; checked when the packet was decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicFilters<'a>(&'a [u8]);

impl<'a> Iterator for TopicFilters<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<Self::Item> {
        let (filter, rest) = split_binary(self.0)?;
        self.0 = rest;
        std::str::from_utf8(filter).ok()
    }
}
