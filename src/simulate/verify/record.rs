//! A stored envelope, as far as a comparison needs it.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// A stored copy of a simulated report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCopy<'a> {
    /// The envelope's id.
    pub id: Cow<'a, str>,
    /// The device that the envelope is about.
    pub device: Cow<'a, str>,
    /// The run, as the device wrote it.
    pub run: Cow<'a, str>,
    /// Number of the message, from 1.
    pub n: u64,
    /// Number of the device's connection on which this copy was sent, from 1.
    pub connection: u32,
}

/// A record of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredRecord<'a> {
    /// A copy of a simulated report.
    Copy(StoredCopy<'a>),
    /// Another envelope: presence, replies, rejections, messages of real devices.
    Other,
    /// No JSON object.
    Unreadable,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    deviceid: Cow<'a, str>,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow, rename = "messageType")]
    message_type: Cow<'a, str>,
    #[serde(borrow)]
    properties: Properties<'a>,
}

#[derive(Deserialize)]
struct Properties<'a> {
    #[serde(borrow)]
    run: Cow<'a, str>,
    n: u64,
    connection: u32,
}

const REPORT: &str = "REPORT_PROPERTY";

impl<'a> StoredRecord<'a> {
    /// Reads an envelope in structured mode.
    pub fn structured(value: &'a [u8]) -> Self {
        match serde_json::from_slice::<Envelope<'_>>(value) {
            Ok(Envelope { id, deviceid, data }) => Self::of(id, deviceid, data),
            Err(_) => Self::other(value),
        }
    }

    /// Reads an envelope in binary mode: two of its attributes, and the value that is its `data`.
    pub fn binary(id: &'a str, device: &'a str, value: &'a [u8]) -> Self {
        match serde_json::from_slice::<Data<'_>>(value) {
            Ok(data) => Self::of(Cow::Borrowed(id), Cow::Borrowed(device), data),
            Err(_) => Self::other(value),
        }
    }

    fn of(id: Cow<'a, str>, device: Cow<'a, str>, data: Data<'a>) -> Self {
        if data.message_type != REPORT {
            return StoredRecord::Other;
        }
        let Properties { run, n, connection } = data.properties;
        StoredRecord::Copy(StoredCopy { id, device, run, n, connection })
    }

    fn other(value: &[u8]) -> Self {
        let is_object =
            value.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(value).is_ok();
        if is_object { StoredRecord::Other } else { StoredRecord::Unreadable }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: &str = r#"{"messageType":"REPORT_PROPERTY","messageId":"7","deviceId":"device1","timestamp":1,"properties":{"run":"R","connection":2,"n":7,"temperature":21.5}}"#;

    fn copy<'a>() -> StoredRecord<'a> {
        StoredRecord::Copy(StoredCopy {
            id: "01".into(),
            device: "device1".into(),
            run: "R".into(),
            n: 7,
            connection: 2,
        })
    }

    #[test]
    fn both_modes_give_the_same_copy() {
        let structured = format!(r#"{{"specversion":"1.0","id":"01","type":"t","deviceid":"device1","data":{DATA}}}"#);
        assert_eq!(StoredRecord::structured(structured.as_bytes()), copy());
        assert_eq!(StoredRecord::binary("01", "device1", DATA.as_bytes()), copy());
    }

    #[test]
    fn what_is_no_simulated_report_is_told_from_what_is_no_envelope() {
        let reply = DATA.replace("REPORT_PROPERTY", "READ_PROPERTY_REPLY");
        for other in [
            reply.as_str(),
            r#"{"id":"01"}"#,
            r#"{"messageType":"REPORT_PROPERTY","properties":{"run":"R","n":"7","connection":1}}"#,
        ] {
            assert_eq!(StoredRecord::binary("01", "device1", other.as_bytes()), StoredRecord::Other, "{other}");
        }
        for unreadable in ["", "{", "7", r#"{"id":1}x"#] {
            assert_eq!(StoredRecord::structured(unreadable.as_bytes()), StoredRecord::Unreadable, "{unreadable}");
        }
    }
}
