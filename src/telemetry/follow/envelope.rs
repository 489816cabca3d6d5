//! Envelopes as followers see them: always in structured mode.

use bytes::Bytes;
use serde::Deserialize;

use crate::protocol::json::write_string;
use crate::protocol::uplink::{Channel, Record};

/// Parts of an envelope.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Envelope {
    pub(super) id: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(rename = "productid")]
    pub(super) product: String,
    #[serde(rename = "deviceid")]
    pub(super) device: String,
    /// Of a rejected message alone.
    #[serde(skip)]
    pub(super) rejection: Option<Rejection>,
}

/// The data of the envelope of a rejected message.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Rejection {
    pub(super) reason: String,
    pub(super) detail: String,
}

#[derive(Deserialize)]
struct RejectedEnvelope {
    data: Rejection,
}

impl Envelope {
    /// Reads a record.
    pub(super) fn of(record: &Record) -> Self {
        let Record { channel, payload, attributes, .. } = record;
        let is_rejected = *channel == Channel::Rejected;
        if attributes.is_empty() {
            let envelope = serde_json::from_slice(payload).unwrap_or_default();
            let rejected = || serde_json::from_slice(payload).ok().map(|RejectedEnvelope { data }| data);
            return Self { rejection: is_rejected.then(rejected).flatten(), ..envelope };
        }
        let attribute = |wanted: &str| {
            attributes.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let [id, kind, product, device] = ["id", "type", "productid", "deviceid"].map(attribute);
        let rejection = is_rejected.then(|| serde_json::from_slice(payload).ok()).flatten();
        Self { id, kind, product, device, rejection }
    }
}

/// A line with the whole envelope of a record.
pub(super) fn line(replica_id: &str, record: &Record) -> Bytes {
    let Record { payload, attributes, .. } = record;
    let mut line = Vec::with_capacity(payload.len() + 64 + 64 * attributes.len());
    line.extend_from_slice(b"{\"replicaId\":");
    write_string(&mut line, replica_id);
    line.extend_from_slice(b",\"envelope\":");
    let start = line.len();
    if attributes.is_empty() {
        line.extend_from_slice(payload);
    } else {
        for (index, (name, value)) in attributes.iter().enumerate() {
            line.push(if index == 0 { b'{' } else { b',' });
            write_string(&mut line, name);
            line.push(b':');
            write_string(&mut line, value);
        }
        line.extend_from_slice(b",\"data\":");
        line.extend_from_slice(payload);
        line.push(b'}');
    }
    // Between the parts of JSON alone: within a text they are escaped.
    for byte in line[start..].iter_mut().filter(|byte| matches!(**byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
    line.push(b'}');
    Bytes::from(line)
}
