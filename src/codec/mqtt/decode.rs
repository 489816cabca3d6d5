//! Bytes to packets.

use std::fmt;

use super::packet::{
    Connect, Credentials, Filters, Packet, PacketId, Publish, PublishHead, Qos, TopicFilters, Version, Will,
    split_binary, split_text,
};

/// Extent of the packet at the front of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Packet type and flags.
    pub first_byte: u8,
    /// Bytes of the fixed header: 2 to 5.
    pub header_bytes: usize,
    /// Bytes after the fixed header: at most 268,435,455.
    pub body_bytes: usize,
}

impl Frame {
    /// Bytes of the whole packet.
    pub fn total_bytes(&self) -> usize {
        self.header_bytes + self.body_bytes
    }

    /// Whether this is a PUBLISH, the one packet that may be large for a good reason.
    pub fn is_publish(&self) -> bool {
        self.first_byte >> 4 == 3
    }
}

/// The peer broke the protocol: the connection must be closed, nothing is answered (MQTT-4.8.0-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// The remaining length takes more than four bytes (MQTT 3.1.1, 2.2.3).
    RemainingLength,
    /// Packet type 0 or 15.
    PacketType,
    /// Flags that this packet type does not allow (MQTT-2.2.2-2).
    Flags,
    /// A field runs past the end, bytes are left over, or a text is not UTF-8 or holds U+0000.
    Body,
    /// A packet identifier of 0 (MQTT-2.3.1-1).
    PacketId,
    /// QoS 3 (MQTT-3.3.1-4).
    Qos,
    /// An empty topic, or one with wildcards (MQTT-4.7.3-1, MQTT-3.3.2-2).
    Topic,
    /// A protocol name that is none of MQTT's.
    ProtocolName,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::RemainingLength => "the remaining length is malformed",
            Malformed::PacketType => "the packet type is reserved",
            Malformed::Flags => "the flags of the fixed header are not allowed",
            Malformed::Body => "the packet's fields do not fit its length",
            Malformed::PacketId => "the packet identifier is 0",
            Malformed::Qos => "the QoS is 3",
            Malformed::Topic => "the topic is empty or has wildcards",
            Malformed::ProtocolName => "the protocol name is not MQTT's",
        })
    }
}

impl std::error::Error for Malformed {}

/// Finds the extent of the first packet in `bytes`; `None`: too few bytes to tell.
///
/// # Errors
/// [`Malformed::RemainingLength`], [`Malformed::PacketType`].
pub fn frame(bytes: &[u8]) -> Result<Option<Frame>, Malformed> {
    let Some((&first_byte, rest)) = bytes.split_first() else { return Ok(None) };
    if matches!(first_byte >> 4, 0 | 15) {
        return Err(Malformed::PacketType);
    }
    let mut body_bytes = 0;
    for (index, &byte) in rest.iter().take(4).enumerate() {
        body_bytes |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some(Frame { first_byte, header_bytes: index + 2, body_bytes }));
        }
    }
    if rest.len() >= 4 { Err(Malformed::RemainingLength) } else { Ok(None) }
}

/// Reads the packet whose first byte and body (all after the fixed header) these are.
///
/// # Errors
/// [`Malformed`] says which rule is broken; the connection must then be closed.
pub fn decode(first_byte: u8, body: &[u8]) -> Result<Packet<'_>, Malformed> {
    let flags = first_byte & 0x0f;
    let flags_expected = match first_byte >> 4 {
        3 => return publish(first_byte, body),
        6 | 8 | 10 => 2,
        _ => 0,
    };
    if flags != flags_expected {
        // MQTT 3.1 lets a client set DUP on PUBREL, SUBSCRIBE and UNSUBSCRIBE that it sends again.
        if !(flags_expected == 2 && flags == 0x0a) {
            return Err(Malformed::Flags);
        }
    }
    match first_byte >> 4 {
        1 => connect(body),
        2 => match body {
            [flags @ (0 | 1), code] => Ok(Packet::Connack(*flags == 1, *code)),
            _ => Err(Malformed::Body),
        },
        4 => lone_packet_id(body).map(Packet::Puback),
        5 => lone_packet_id(body).map(Packet::Pubrec),
        6 => lone_packet_id(body).map(Packet::Pubrel),
        7 => lone_packet_id(body).map(Packet::Pubcomp),
        8 => subscribe(body),
        9 => packet_id(body).map(|(id, codes)| Packet::Suback(id, codes)),
        10 => unsubscribe(body),
        11 => lone_packet_id(body).map(Packet::Unsuback),
        12 => empty(body, Packet::Pingreq),
        13 => empty(body, Packet::Pingresp),
        14 => empty(body, Packet::Disconnect),
        _ => Err(Malformed::PacketType),
    }
}

/// Reads what precedes the payload of a PUBLISH; the second part is what follows. For packets whose payload is too
/// large to be read at all.
///
/// # Errors
/// As [`decode`].
pub fn publish_head(first_byte: u8, body: &[u8]) -> Result<(PublishHead<'_>, &[u8]), Malformed> {
    let qos = Qos::from_bits(first_byte >> 1 & 3).ok_or(Malformed::Qos)?;
    let (topic, rest) = split_text(body).ok_or(Malformed::Body)?;
    if topic.is_empty() || memchr::memchr2(b'+', b'#', topic.as_bytes()).is_some() {
        return Err(Malformed::Topic);
    }
    let (packet_id, payload) = match qos {
        Qos::AtMostOnce => (None, rest),
        Qos::AtLeastOnce | Qos::ExactlyOnce => {
            let (id, payload) = packet_id(rest)?;
            (Some(id), payload)
        }
    };
    let head = PublishHead { dup: first_byte & 8 != 0, qos, retain: first_byte & 1 != 0, topic, packet_id };
    Ok((head, payload))
}

fn publish(first_byte: u8, body: &[u8]) -> Result<Packet<'_>, Malformed> {
    let (head, payload) = publish_head(first_byte, body)?;
    Ok(Packet::Publish(Publish { head, payload }))
}

fn connect(body: &[u8]) -> Result<Packet<'_>, Malformed> {
    let (name, rest) = split_binary(body).ok_or(Malformed::Body)?;
    let (&level, rest) = rest.split_first().ok_or(Malformed::Body)?;
    let version = match (name, level) {
        (b"MQIsdp", 3) => Version::V31,
        (b"MQTT", 4) => Version::V311,
        (b"MQIsdp" | b"MQTT", _) => return Ok(Packet::ConnectOfOtherVersion),
        _ => return Err(Malformed::ProtocolName),
    };
    let (&flags, rest) = rest.split_first().ok_or(Malformed::Body)?;
    let (keep_alive, rest) = rest.split_first_chunk::<2>().ok_or(Malformed::Body)?;
    if version == Version::V311 && flags & 1 != 0 {
        return Err(Malformed::Flags);
    }
    let (client_id, mut rest) = split_text(rest).ok_or(Malformed::Body)?;
    let will = if flags & 4 == 0 {
        // MQTT-3.1.2-11, -13 and -15.
        if version == Version::V311 && flags & 0x38 != 0 {
            return Err(Malformed::Flags);
        }
        None
    } else {
        let (topic, after) = split_text(rest).ok_or(Malformed::Body)?;
        let (payload, after) = split_binary(after).ok_or(Malformed::Body)?;
        rest = after;
        let qos = Qos::from_bits(flags >> 3 & 3).ok_or(Malformed::Qos)?;
        if topic.is_empty() || memchr::memchr2(b'+', b'#', topic.as_bytes()).is_some() {
            return Err(Malformed::Topic);
        }
        Some(Will { topic, payload, qos, retain: flags & 0x20 != 0 })
    };
    let mut credentials = Credentials { username: None, password: None };
    if flags & 0x80 != 0 {
        let (username, after) = split_text(rest).ok_or(Malformed::Body)?;
        credentials.username = Some(username);
        rest = after;
    }
    if flags & 0x40 != 0 {
        // MQTT-3.1.2-22.
        if credentials.username.is_none() && version == Version::V311 {
            return Err(Malformed::Flags);
        }
        let (password, after) = split_binary(rest).ok_or(Malformed::Body)?;
        credentials.password = Some(password);
        rest = after;
    }
    let connect = Connect {
        version,
        clean_session: flags & 2 != 0,
        keep_alive_secs: u16::from_be_bytes(*keep_alive),
        client_id,
        will,
        credentials,
    };
    empty(rest, Packet::Connect(connect))
}

fn subscribe(body: &[u8]) -> Result<Packet<'_>, Malformed> {
    let (id, filters) = packet_id(body)?;
    let mut rest = filters;
    while !rest.is_empty() {
        let (_, after) = split_text(rest).ok_or(Malformed::Body)?;
        let (&bits, after) = after.split_first().ok_or(Malformed::Body)?;
        Qos::from_bits(bits).ok_or(Malformed::Qos)?;
        rest = after;
    }
    if filters.is_empty() {
        return Err(Malformed::Body);
    }
    Ok(Packet::Subscribe(id, Filters(filters)))
}

fn unsubscribe(body: &[u8]) -> Result<Packet<'_>, Malformed> {
    let (id, filters) = packet_id(body)?;
    let mut rest = filters;
    while !rest.is_empty() {
        (_, rest) = split_text(rest).ok_or(Malformed::Body)?;
    }
    if filters.is_empty() {
        return Err(Malformed::Body);
    }
    Ok(Packet::Unsubscribe(id, TopicFilters(filters)))
}

fn packet_id(bytes: &[u8]) -> Result<(PacketId, &[u8]), Malformed> {
    let (id, rest) = bytes.split_first_chunk::<2>().ok_or(Malformed::Body)?;
    let id = PacketId::new(u16::from_be_bytes(*id)).ok_or(Malformed::PacketId)?;
    Ok((id, rest))
}

fn lone_packet_id(body: &[u8]) -> Result<PacketId, Malformed> {
    let (id, rest) = packet_id(body)?;
    if rest.is_empty() { Ok(id) } else { Err(Malformed::Body) }
}

fn empty<'a>(rest: &[u8], packet: Packet<'a>) -> Result<Packet<'a>, Malformed> {
    if rest.is_empty() { Ok(packet) } else { Err(Malformed::Body) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::mqtt::encode;

    fn whole(bytes: &[u8]) -> Result<Packet<'_>, Malformed> {
        let frame = frame(bytes)?.ok_or(Malformed::Body)?;
        assert_eq!(frame.total_bytes(), bytes.len());
        decode(frame.first_byte, &bytes[frame.header_bytes..])
    }

    fn id(number: u16) -> PacketId {
        PacketId::new(number).expect("tests use ids above 0")
    }

    #[test]
    fn every_packet_decodes_to_what_was_encoded() {
        let connect = Connect {
            version: Version::V31,
            clean_session: true,
            keep_alive_secs: 60,
            client_id: "device1",
            will: Some(Will { topic: "/p/d/offline", payload: b"{}", qos: Qos::AtLeastOnce, retain: false }),
            credentials: Credentials { username: Some("test|1"), password: Some(b"\xff\x00") },
        };
        let publish = Publish {
            head: PublishHead {
                dup: true,
                qos: Qos::ExactlyOnce,
                retain: false,
                topic: "/product1/device1/properties/report",
                packet_id: Some(id(7)),
            },
            payload: &[b'x'; 300],
        };
        let mut bytes = Vec::new();
        encode::connect(&mut bytes, &connect);
        assert_eq!(whole(&bytes), Ok(Packet::Connect(connect)));
        bytes.clear();
        encode::publish(&mut bytes, &publish);
        assert_eq!(whole(&bytes), Ok(Packet::Publish(publish)));
        bytes.clear();
        encode::subscribe(&mut bytes, id(1), &[("/a/#", Qos::AtLeastOnce), ("/b", Qos::AtMostOnce)]);
        let Ok(Packet::Subscribe(packet_id, filters)) = whole(&bytes) else { panic!("no SUBSCRIBE") };
        assert_eq!(packet_id, id(1));
        assert_eq!(filters.collect::<Vec<_>>(), [("/a/#", Qos::AtLeastOnce), ("/b", Qos::AtMostOnce)]);
        for (encoded, expected) in [
            (encode::puback(id(3)), Packet::Puback(id(3))),
            (encode::pubrec(id(3)), Packet::Pubrec(id(3))),
            (encode::pubrel(id(3)), Packet::Pubrel(id(3))),
            (encode::pubcomp(id(3)), Packet::Pubcomp(id(3))),
            (encode::unsuback(id(3)), Packet::Unsuback(id(3))),
            (encode::connack(crate::codec::mqtt::ConnectCode::ServerUnavailable), Packet::Connack(false, 3)),
        ] {
            assert_eq!(whole(&encoded), Ok(expected));
        }
    }

    #[test]
    fn a_cut_packet_is_incomplete_and_never_decodes() {
        let mut bytes = Vec::new();
        encode::subscribe(&mut bytes, id(9), &[("/product1/device1/#", Qos::AtLeastOnce)]);
        for end in 2..bytes.len() {
            assert!(decode(bytes[0], &bytes[2..end]).is_err(), "decoded {end} of {} bytes", bytes.len());
        }
        assert_eq!(frame(&bytes[..1]), Ok(None));
        assert_eq!(frame(&[0x30, 0x80, 0x80]), Ok(None));
    }

    #[test]
    fn each_broken_rule_has_its_name() {
        for (bytes, expected) in [
            (&[0x00, 0][..], Malformed::PacketType),
            (&[0xf0, 0], Malformed::PacketType),
            (&[0x30, 0xff, 0xff, 0xff, 0xff], Malformed::RemainingLength),
            (&[0xc1, 0], Malformed::Flags),
            (&[0x60, 2, 0, 1], Malformed::Flags),
            (&[0x40, 2, 0, 0], Malformed::PacketId),
            (&[0x40, 3, 0, 1, 0], Malformed::Body),
            (&[0x36, 5, 0, 1, b'a', 0, 1], Malformed::Qos),
            (&[0x30, 2, 0, 0], Malformed::Topic),
            (&[0x30, 4, 0, 2, b'a', b'#'], Malformed::Topic),
            (&[0x30, 3, 0, 1, 0xff], Malformed::Body),
            (&[0x30, 3, 0, 1, 0], Malformed::Body),
            (&[0x82, 2, 0, 1], Malformed::Body),
            (&[0x82, 6, 0, 1, 0, 1, b'a', 3], Malformed::Qos),
            (&[0x10, 7, 0, 4, b'H', b'T', b'T', b'P', 4], Malformed::ProtocolName),
        ] {
            assert_eq!(whole(bytes), Err(expected), "{bytes:?}");
        }
        assert_eq!(whole(&[0x10, 7, 0, 4, b'M', b'Q', b'T', b'T', 5]), Ok(Packet::ConnectOfOtherVersion));
    }
}
