//! Packets to bytes.

use super::{Connect, ConnectCode, PacketId, Publish, Qos, Version};

/// CONNACK; session present is always 0, as no session outlives its connection.
pub fn connack(code: ConnectCode) -> [u8; 4] {
    [0x20, 2, 0, code as u8]
}

/// PUBACK.
pub fn puback(id: PacketId) -> [u8; 4] {
    with_id(0x40, id)
}

/// PUBREC.
pub fn pubrec(id: PacketId) -> [u8; 4] {
    with_id(0x50, id)
}

/// PUBREL.
pub fn pubrel(id: PacketId) -> [u8; 4] {
    with_id(0x62, id)
}

/// PUBCOMP.
pub fn pubcomp(id: PacketId) -> [u8; 4] {
    with_id(0x70, id)
}

/// UNSUBACK.
pub fn unsuback(id: PacketId) -> [u8; 4] {
    with_id(0xb0, id)
}

/// PINGREQ.
pub const PINGREQ: [u8; 2] = [0xc0, 0];
/// PINGRESP.
pub const PINGRESP: [u8; 2] = [0xd0, 0];
/// DISCONNECT.
pub const DISCONNECT: [u8; 2] = [0xe0, 0];

/// Appends a SUBACK; each code is a granted level or 0x80.
pub fn suback(out: &mut Vec<u8>, id: PacketId, codes: &[u8]) {
    out.push(0x90);
    length(out, 2 + codes.len());
    out.extend_from_slice(&id.get().to_be_bytes());
    out.extend_from_slice(codes);
}

/// Appends a PUBLISH. The packet id must be there exactly when the level is above 0.
pub fn publish(out: &mut Vec<u8>, publish: &Publish<'_>) {
    let head = &publish.head;
    out.push(0x30 | u8::from(head.dup) << 3 | (head.qos as u8) << 1 | u8::from(head.retain));
    length(out, 2 + head.topic.len() + if head.packet_id.is_some() { 2 } else { 0 } + publish.payload.len());
    binary(out, head.topic.as_bytes());
    if let Some(id) = head.packet_id {
        out.extend_from_slice(&id.get().to_be_bytes());
    }
    out.extend_from_slice(publish.payload);
}

/// Bytes of a PUBLISH with a packet id, its fixed header included.
pub fn publish_bytes(topic: &str, payload: &[u8]) -> usize {
    let body_bytes = 2 + topic.len() + 2 + payload.len();
    let mut length_bytes = 1;
    while body_bytes >> (7 * length_bytes) > 0 {
        length_bytes += 1;
    }
    1 + length_bytes + body_bytes
}

/// Appends a CONNECT.
pub fn connect(out: &mut Vec<u8>, connect: &Connect<'_>) {
    let (name, level) = match connect.version {
        Version::V31 => ("MQIsdp", 3),
        Version::V311 => ("MQTT", 4),
    };
    let mut flags = u8::from(connect.clean_session) << 1;
    let mut body_bytes = 2 + name.len() + 4 + 2 + connect.client_id.len();
    if let Some(will) = &connect.will {
        flags |= 4 | (will.qos as u8) << 3 | u8::from(will.retain) << 5;
        body_bytes += 4 + will.topic.len() + will.payload.len();
    }
    if let Some(username) = connect.credentials.username {
        flags |= 0x80;
        body_bytes += 2 + username.len();
    }
    if let Some(password) = connect.credentials.password {
        flags |= 0x40;
        body_bytes += 2 + password.len();
    }
    out.push(0x10);
    length(out, body_bytes);
    binary(out, name.as_bytes());
    out.extend_from_slice(&[level, flags]);
    out.extend_from_slice(&connect.keep_alive_secs.to_be_bytes());
    binary(out, connect.client_id.as_bytes());
    if let Some(will) = &connect.will {
        binary(out, will.topic.as_bytes());
        binary(out, will.payload);
    }
    if let Some(username) = connect.credentials.username {
        binary(out, username.as_bytes());
    }
    if let Some(password) = connect.credentials.password {
        binary(out, password);
    }
}

/// Appends a SUBSCRIBE.
pub fn subscribe(out: &mut Vec<u8>, id: PacketId, filters: &[(&str, Qos)]) {
    out.push(0x82);
    length(out, 2 + filters.iter().map(|(filter, _)| 3 + filter.len()).sum::<usize>());
    out.extend_from_slice(&id.get().to_be_bytes());
    for (filter, qos) in filters {
        binary(out, filter.as_bytes());
        out.push(*qos as u8);
    }
}

fn with_id(first_byte: u8, id: PacketId) -> [u8; 4] {
    let [high, low] = id.get().to_be_bytes();
    [first_byte, 2, high, low]
}

#[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
fn length(out: &mut Vec<u8>, mut bytes: usize) {
    while bytes > 0x7f {
        out.push(bytes as u8 | 0x80);
        bytes >>= 7;
    }
    out.push(bytes as u8);
}

/// Callers hand over topics, names and secrets, which are at most 65,535 bytes; a longer one is cut there.
#[expect(clippy::cast_possible_truncation, reason = "cut to 16 bits before")]
fn binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}
