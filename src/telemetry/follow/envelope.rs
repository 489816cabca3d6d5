//! Envelopes as followers see them: always in structured mode.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;

use crate::protocol::json::write_string;
use crate::protocol::uplink::{Channel, Record};

/// Parts of an envelope.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) product: String,
    pub(super) device: String,
    /// Of a rejected message; empty else.
    pub(super) reason: String,
    pub(super) detail: String,
}

#[derive(Deserialize)]
struct Structured<'a> {
    #[serde(borrow, default)]
    id: Cow<'a, str>,
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    productid: Cow<'a, str>,
    #[serde(borrow, default)]
    deviceid: Cow<'a, str>,
}

#[derive(Deserialize)]
struct RejectedEnvelope<'a> {
    #[serde(borrow)]
    data: RejectedData<'a>,
}

#[derive(Deserialize)]
struct RejectedData<'a> {
    #[serde(borrow)]
    reason: Cow<'a, str>,
    #[serde(borrow)]
    detail: Cow<'a, str>,
}

impl Envelope {
    /// Reads a record.
    pub(super) fn of(record: &Record) -> Self {
        let Record { channel, payload, attributes, .. } = record;
        let mut envelope = if attributes.is_empty() {
            // The bridge has written it.
            serde_json::from_slice(payload).map_or_else(
                |_| Self::default(),
                |Structured { id, kind, productid, deviceid }| Self {
                    id: id.into_owned(),
                    kind: kind.into_owned(),
                    product: productid.into_owned(),
                    device: deviceid.into_owned(),
                    ..Self::default()
                },
            )
        } else {
            let attribute = |wanted: &str| {
                attributes.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.clone()).unwrap_or_default()
            };
            let [id, kind, product, device] = ["id", "type", "productid", "deviceid"].map(attribute);
            Self { id, kind, product, device, ..Self::default() }
        };
        if *channel == Channel::Rejected {
            let data = if attributes.is_empty() {
                serde_json::from_slice::<RejectedEnvelope<'_>>(payload).map(|envelope| envelope.data)
            } else {
                serde_json::from_slice::<RejectedData<'_>>(payload)
            };
            if let Ok(RejectedData { reason, detail }) = data {
                (envelope.reason, envelope.detail) = (reason.into_owned(), detail.into_owned());
            }
        }
        envelope
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
