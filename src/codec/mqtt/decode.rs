//! Bytes to packets.

use super::text::{split_binary, split_filter, split_text, split_topic};
use super::{Connect, Credentials, Filters, Packet, PacketId, Publish, PublishHead, Qos, TopicFilters, Version, Will};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The remaining length takes more than four bytes (MQTT 3.1.1, 2.2.3).
    #[error("the remaining length is malformed")]
    RemainingLength,
    /// Packet type 0 or 15.
    #[error("the packet type is reserved")]
    PacketType,
    /// Flags that this packet type does not allow (MQTT-2.2.2-2), or flags of a CONNECT that exclude each other.
    #[error("the flags are not allowed")]
    Flags,
    /// A field runs past the end, bytes are left over, or there is no filter (MQTT-3.8.3-3, MQTT-3.10.3-2).
    #[error("the packet's fields do not fit its length")]
    Body,
    /// A text that is not UTF-8, or holds U+0000 or another character of MQTT 3.1.1, 1.5.3.
    #[error("a text is not UTF-8, or holds a control character or what is no character")]
    Text,
    /// A packet identifier of 0 (MQTT-2.3.1-1).
    #[error("the packet identifier is 0")]
    PacketId,
    /// QoS 3 (MQTT-3.3.1-4).
    #[error("the QoS is 3")]
    Qos,
    /// An empty topic, or one with wildcards (MQTT-4.7.3-1, MQTT-3.3.2-2).
    #[error("the topic is empty or has wildcards")]
    Topic,
    /// An empty filter, or wildcards where none may stand (MQTT-4.7.3-1, MQTT-4.7.1-2, MQTT-4.7.1-3).
    #[error("the filter is empty or has misplaced wildcards")]
    Filter,
    /// A protocol name that is none of MQTT's.
    #[error("the protocol name is not MQTT's")]
    ProtocolName,
}

/// Finds the extent of the first packet in `bytes`; `None`: too few bytes to tell.
///
/// # Errors
/// [`Malformed::RemainingLength`], [`Malformed::PacketType`]; [`Malformed::Body`] where packets of the type have one
/// length, and this is another.
pub fn frame(bytes: &[u8]) -> Result<Option<Frame>, Malformed> {
    let Some((&first_byte, rest)) = bytes.split_first() else { return Ok(None) };
    if matches!(first_byte >> 4, 0 | 15) {
        return Err(Malformed::PacketType);
    }
    let mut body_bytes = 0;
    for (index, &byte) in rest.iter().take(4).enumerate() {
        body_bytes |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            // Without this a PINGREQ of 256 MiB would be waited for.
            return match (first_byte >> 4, body_bytes) {
                (1 | 3 | 8..=10, _) | (2 | 4..=7 | 11, 2) | (12..=14, 0) => {
                    Ok(Some(Frame { first_byte, header_bytes: index + 2, body_bytes }))
                }
                _ => Err(Malformed::Body),
            };
        }
    }
    if rest.len() >= 4 { Err(Malformed::RemainingLength) } else { Ok(None) }
}

/// Reads the packet whose first byte and body (all after the fixed header) these are, by the rules of the version that
/// the session speaks.
///
/// # Errors
/// [`Malformed`] says which rule is broken; the connection must then be closed.
pub fn decode(version: Version, first_byte: u8, body: &[u8]) -> Result<Packet<'_>, Malformed> {
    match first_byte >> 4 {
        1 => return decode_connect(first_byte, body),
        3 => return publish(version, first_byte, body),
        kind => check_flags(version, kind, first_byte & 0x0f)?,
    }
    match first_byte >> 4 {
        2 => match body {
            [flags @ (0 | 1), code] => Ok(Packet::Connack(*flags == 1, *code)),
            _ => Err(Malformed::Body),
        },
        4 => lone_packet_id(body).map(Packet::Puback),
        5 => lone_packet_id(body).map(Packet::Pubrec),
        6 => lone_packet_id(body).map(Packet::Pubrel),
        7 => lone_packet_id(body).map(Packet::Pubcomp),
        8 => subscribe(version, body),
        9 => packet_id(body).map(|(id, codes)| Packet::Suback(id, codes)),
        10 => unsubscribe(body),
        11 => lone_packet_id(body).map(Packet::Unsuback),
        12 => empty(body, Packet::Pingreq),
        13 => empty(body, Packet::Pingresp),
        14 => empty(body, Packet::Disconnect),
        _ => Err(Malformed::PacketType),
    }
}

/// The flags of all packets but PUBLISH and CONNECT. MQTT 3.1.1 fixes all four bits (MQTT-2.2.2-1). MQTT 3.1 sends
/// PUBREL, SUBSCRIBE and UNSUBSCRIBE at QoS 1, again with DUP, and does not use the other bits (its 2.1 and 2.6).
fn check_flags(version: Version, kind: u8, flags: u8) -> Result<(), Malformed> {
    let is_acknowledged = matches!(kind, 6 | 8 | 10);
    let are_allowed = match (version, is_acknowledged) {
        (Version::V311, true) => flags == 0b0010,
        (Version::V311, false) => flags == 0,
        (Version::V31, true) => flags & 0b0110 == 0b0010,
        (Version::V31, false) => true,
    };
    if are_allowed { Ok(()) } else { Err(Malformed::Flags) }
}

/// Reads what precedes the payload of a PUBLISH; the second part is what follows. For packets whose payload is too
/// large to be read at all.
///
/// # Errors
/// As [`decode`].
pub fn publish_head(version: Version, first_byte: u8, body: &[u8]) -> Result<(PublishHead<'_>, &[u8]), Malformed> {
    let qos = Qos::from_bits(first_byte >> 1 & 3).ok_or(Malformed::Qos)?;
    let dup = first_byte & 8 != 0;
    // MQTT-3.3.1-2; MQTT 3.1 gives DUP no meaning there.
    if dup && qos == Qos::AtMostOnce && version == Version::V311 {
        return Err(Malformed::Flags);
    }
    let (topic, rest) = split_topic(body)?;
    let (packet_id, payload) = match qos {
        Qos::AtMostOnce => (None, rest),
        Qos::AtLeastOnce | Qos::ExactlyOnce => {
            let (id, payload) = packet_id(rest)?;
            (Some(id), payload)
        }
    };
    Ok((PublishHead { dup, qos, retain: first_byte & 1 != 0, topic, packet_id }, payload))
}

fn publish(version: Version, first_byte: u8, body: &[u8]) -> Result<Packet<'_>, Malformed> {
    let (head, payload) = publish_head(version, first_byte, body)?;
    Ok(Packet::Publish(Publish { head, payload }))
}

/// Reads the CONNECT whose first byte and body these are; it names its version itself.
///
/// # Errors
/// [`Malformed`] says which rule is broken; the connection must then be closed without CONNACK (MQTT-3.1.4-1).
pub fn decode_connect(first_byte: u8, body: &[u8]) -> Result<Packet<'_>, Malformed> {
    if first_byte >> 4 != 1 {
        return Err(Malformed::PacketType);
    }
    let (name, rest) = split_binary(body).ok_or(Malformed::Body)?;
    match name {
        // MQTT 3.1 does not use the flags of the fixed header.
        b"MQIsdp" => {}
        b"MQTT" if first_byte & 0x0f == 0 => {}
        b"MQTT" => return Err(Malformed::Flags),
        _ => return Err(Malformed::ProtocolName),
    }
    // Level, flags and keep-alive stand there in every version that is known.
    let (&[level, flags, high, low], rest) = rest.split_first_chunk::<4>().ok_or(Malformed::Body)?;
    let version = match (name, level) {
        (b"MQIsdp", 3) => Version::V31,
        (b"MQTT", 4) => Version::V311,
        _ => return Ok(Packet::ConnectOfOtherVersion),
    };
    // MQTT-3.1.2-3.
    if version == Version::V311 && flags & 1 != 0 {
        return Err(Malformed::Flags);
    }
    let (client_id, rest) = split_text(rest)?;
    let (will, rest) = will(version, flags, rest)?;
    let (credentials, rest) = credentials(version, flags, rest)?;
    let keep_alive_secs = u16::from_be_bytes([high, low]);
    let connect = Connect { version, clean_session: flags & 2 != 0, keep_alive_secs, client_id, will, credentials };
    empty(rest, Packet::Connect(connect))
}

fn will(version: Version, flags: u8, rest: &[u8]) -> Result<(Option<Will<'_>>, &[u8]), Malformed> {
    if flags & 4 == 0 {
        // MQTT-3.1.2-11, -13 and -15; MQTT 3.1 disregards both fields then.
        return if version == Version::V311 && flags & 0x38 != 0 { Err(Malformed::Flags) } else { Ok((None, rest)) };
    }
    // MQTT-3.1.2-14.
    let qos = Qos::from_bits(flags >> 3 & 3).ok_or(Malformed::Qos)?;
    let (topic, rest) = split_topic(rest)?;
    let (payload, rest) = split_binary(rest).ok_or(Malformed::Body)?;
    Ok((Some(Will { topic, payload, qos, retain: flags & 0x20 != 0 }), rest))
}

fn credentials(version: Version, flags: u8, mut rest: &[u8]) -> Result<(Credentials<'_>, &[u8]), Malformed> {
    let mut credentials = Credentials { username: None, password: None };
    // MQTT-3.1.2-22; not valid in MQTT 3.1 either (its 3.1).
    if flags & 0xc0 == 0x40 {
        return Err(Malformed::Flags);
    }
    // MQTT 3.1 lets the remaining length prevail over these flags (its 3.1): a field behind the end is absent.
    let is_there = |flag: u8, rest: &[u8]| flags & flag != 0 && !(version == Version::V31 && rest.is_empty());
    if is_there(0x80, rest) {
        let (username, after) = split_text(rest)?;
        credentials.username = Some(username);
        rest = after;
    }
    if is_there(0x40, rest) {
        let (password, after) = split_binary(rest).ok_or(Malformed::Body)?;
        credentials.password = Some(password);
        rest = after;
    }
    Ok((credentials, rest))
}

fn subscribe(version: Version, body: &[u8]) -> Result<Packet<'_>, Malformed> {
    let (id, filters) = packet_id(body)?;
    let mut rest = filters;
    while !rest.is_empty() {
        let (_, after) = split_filter(rest)?;
        let (&bits, after) = after.split_first().ok_or(Malformed::Body)?;
        // MQTT-3.8.3-4: the other six bits are 0; MQTT 3.1 does not use them.
        let level = if version == Version::V31 { bits & 3 } else { bits };
        Qos::from_bits(level).ok_or(Malformed::Qos)?;
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
        (_, rest) = split_filter(rest)?;
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
        decode(Version::V311, frame.first_byte, &bytes[frame.header_bytes..])
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
            let cut = decode(Version::V311, bytes[0], &bytes[2..end]);
            assert!(cut.is_err(), "decoded {end} of {} bytes", bytes.len());
        }
        assert_eq!(frame(&bytes[..1]), Ok(None));
        assert_eq!(frame(&[0x30, 0x80, 0x80]), Ok(None));
    }

    #[test]
    fn a_packet_of_a_fixed_length_is_refused_before_another_length_arrives() {
        for first_byte in [0x20, 0x40, 0x50, 0x62, 0x70, 0xb0, 0xc0, 0xd0, 0xe0] {
            let expected = if first_byte < 0xc0 { 2 } else { 0 };
            for length in 0..5 {
                let found = frame(&[first_byte, length]);
                assert_eq!(found.is_ok(), length == expected, "{first_byte:x} of {length}: {found:?}");
            }
            assert_eq!(frame(&[first_byte, 0xff, 0xff, 0xff, 0x7f]), Err(Malformed::Body));
        }
    }
}
