//! MQTT 3.1 and 3.1.1 packets as bytes, written here a second time: a test that used the bridge's own codec would agree
//! with its mistakes.

use super::Registration;

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// MQTT 3.1.
    V31,
    /// MQTT 3.1.1.
    V311,
}

impl Version {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::V31, Self::V311];
}

/// A CONNECT packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connect {
    /// Protocol name, `MQTT` or `MQIsdp`.
    pub(crate) name: &'static str,
    /// Protocol level.
    pub(crate) level: u8,
    /// Client id.
    pub(crate) client_id: String,
    /// User name.
    pub(crate) username: Option<String>,
    /// Password.
    pub(crate) password: Option<String>,
    /// Keep-alive, seconds; 0 turns it off.
    pub(crate) keep_alive: u16,
    /// Clean session.
    pub(crate) clean: bool,
    /// Topic and payload of the will, QoS 0.
    pub(crate) will: Option<(String, Vec<u8>)>,
}

impl Connect {
    /// CONNECT of MQTT 3.1.1 with credentials of this moment and no keep-alive.
    pub(crate) fn of(device: &Registration) -> Self {
        let credentials = device.credentials();
        Self {
            name: "MQTT",
            level: 4,
            client_id: device.id.clone(),
            username: Some(credentials.username),
            password: Some(credentials.password),
            keep_alive: 0,
            clean: true,
            will: None,
        }
    }

    /// The same in another version.
    pub(crate) fn version(self, version: Version) -> Self {
        let (name, level) = match version {
            Version::V31 => ("MQIsdp", 3),
            Version::V311 => ("MQTT", 4),
        };
        Self { name, level, ..self }
    }

    /// The same with a will.
    pub(crate) fn will(self, topic: &str, payload: &str) -> Self {
        Self { will: Some((topic.to_owned(), payload.as_bytes().to_vec())), ..self }
    }

    /// The packet.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut flags = 0;
        for (bit, set) in [
            (0x02, self.clean),
            (0x04, self.will.is_some()),
            (0x40, self.password.is_some()),
            (0x80, self.username.is_some()),
        ] {
            if set {
                flags |= bit;
            }
        }
        let mut body = field(self.name.as_bytes());
        body.extend([self.level, flags]);
        body.extend(self.keep_alive.to_be_bytes());
        body.extend(field(self.client_id.as_bytes()));
        if let Some((topic, payload)) = &self.will {
            body.extend(field(topic.as_bytes()));
            body.extend(field(payload));
        }
        for text in [&self.username, &self.password].into_iter().flatten() {
            body.extend(field(text.as_bytes()));
        }
        packet(0x10, &body)
    }
}

/// A packet as it came: the first byte, and what follows the length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Type and flags.
    pub(crate) header: u8,
    /// Bytes behind the length.
    pub(crate) body: Vec<u8>,
}

impl Packet {
    /// An answer that carries a packet id alone, such as PUBACK.
    pub(crate) fn answer(header: u8, id: u16) -> Self {
        Self { header, body: id.to_be_bytes().to_vec() }
    }

    /// Takes a PUBLISH apart; `None` for any other packet.
    pub(crate) fn publish(&self) -> Option<Publish> {
        if self.header >> 4 != 3 {
            return None;
        }
        let qos = self.header >> 1 & 3;
        let (length, rest) = self.body.split_first_chunk::<2>()?;
        let (topic, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let (id, payload) = match qos {
            0 => (None, rest),
            _ => rest.split_first_chunk::<2>().map(|(id, rest)| (Some(u16::from_be_bytes(*id)), rest))?,
        };
        Some(Publish { topic: String::from_utf8_lossy(topic).into_owned(), qos, id, payload: payload.to_vec() })
    }
}

/// A PUBLISH that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publish {
    /// Topic.
    pub(crate) topic: String,
    /// Quality of service.
    pub(crate) qos: u8,
    /// Packet id, from QoS 1 on.
    pub(crate) id: Option<u16>,
    /// Payload.
    pub(crate) payload: Vec<u8>,
}

impl Publish {
    /// The payload as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.payload).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// First byte of PUBACK.
pub(crate) const PUBACK: u8 = 0x40;
/// First byte of PUBREC.
pub(crate) const PUBREC: u8 = 0x50;
/// First byte of PUBCOMP.
pub(crate) const PUBCOMP: u8 = 0x70;
/// PINGREQ.
pub(crate) const PINGREQ: [u8; 2] = [0xC0, 0];
/// DISCONNECT.
pub(crate) const DISCONNECT: [u8; 2] = [0xE0, 0];

/// PUBLISH; `id` is left out at QoS 0.
pub(crate) fn publish(topic: &str, payload: &[u8], qos: u8, id: u16) -> Vec<u8> {
    let mut body = field(topic.as_bytes());
    if qos > 0 {
        body.extend(id.to_be_bytes());
    }
    body.extend(payload);
    packet(0x30 | qos << 1, &body)
}

/// PUBACK.
pub(crate) fn puback(id: u16) -> Vec<u8> {
    packet(PUBACK, &id.to_be_bytes())
}

/// PUBREL.
pub(crate) fn pubrel(id: u16) -> Vec<u8> {
    packet(0x62, &id.to_be_bytes())
}

/// SUBSCRIBE to filters, each with the QoS asked for.
pub(crate) fn subscribe(id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    for (filter, qos) in filters {
        body.extend(field(filter.as_bytes()));
        body.push(*qos);
    }
    packet(0x82, &body)
}

/// UNSUBSCRIBE.
pub(crate) fn unsubscribe(id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    for filter in filters {
        body.extend(field(filter.as_bytes()));
    }
    packet(0xA2, &body)
}

/// Any packet: first byte, length, body.
pub(crate) fn packet(header: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![header];
    let mut length = body.len();
    loop {
        let low = u8::try_from(length % 128).expect("a remainder of 128 is small");
        length /= 128;
        bytes.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// A field with its length in two bytes in front.
pub(crate) fn field(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("fields of tests are short");
    [&length.to_be_bytes(), content].concat()
}
