//! MQTT 3.1 and 3.1.1 packets, borrowed from the bytes they arrived in.
//!
//! [`frame`] finds where the next packet ends; [`decode`] reads one whole packet by the rules of a [`Version`],
//! [`decode_connect`] the first one, which names it; the functions of [`encode`] append packets to a buffer. No function panics on any input, none allocates for what a packet holds.

mod decode;
pub mod encode;
mod packet;
mod text;

pub use decode::{Frame, Malformed, decode, decode_connect, frame, publish_head};
pub use packet::{
    Connect, ConnectCode, Credentials, Filters, Packet, PacketId, Publish, PublishHead, Qos, TopicFilters, Version,
    Will,
};
