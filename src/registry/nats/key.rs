//! Keys of records in the bucket.

use std::fmt::Write as _;

use crate::protocol::id::{DeviceId, ProductId};

const DEVICE: &str = "device.";
const PRODUCT: &str = "product.";

/// Meaning of a key of the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// The record of a device.
    Device(DeviceId),
    /// The record of a product.
    Product(ProductId),
}

impl Key {
    /// Reads a key. `None`: it is not one that [`Key::text`] makes, so no record of the bridge.
    pub fn parse(text: &str) -> Option<Self> {
        let (decoded, make): (_, fn(&str) -> Option<Self>) = if let Some(id) = text.strip_prefix(DEVICE) {
            (decode(id)?, |id| DeviceId::new(id).map(Key::Device).ok())
        } else {
            (decode(text.strip_prefix(PRODUCT)?)?, |id| ProductId::new(id).map(Key::Product).ok())
        };
        // One id has one key: escaped where it need not be, it would have two.
        make(&decoded).filter(|key| key.text() == text)
    }

    /// The key: `device.` or `product.` and the id, with bytes outside `A-Z a-z 0-9 _ -` as `=XX`.
    pub fn text(&self) -> String {
        let (mut text, id) = match self {
            Key::Device(id) => (DEVICE.to_owned(), id.as_str()),
            Key::Product(id) => (PRODUCT.to_owned(), id.as_str()),
        };
        for byte in id.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') {
                text.push(char::from(byte));
            } else {
                // Writing to a String cannot fail.
                let _ = write!(text, "={byte:02X}");
            }
        }
        text
    }
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'=' {
            bytes.push(first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        rest = after;
        bytes.push(u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_of_plain_characters_and_reads_back() {
        for (id, text) in [
            ("device1", "device.device1"),
            ("A-_9", "device.A-_9"),
            ("a.b=c 度", "device.a=2Eb=3Dc=20=E5=BA=A6"),
            ("..", "device.=2E=2E"),
        ] {
            let key = Key::Device(DeviceId::new(id).unwrap());
            assert_eq!(key.text(), text);
            assert_eq!(Key::parse(text), Some(key));
        }
        let product = Key::Product(ProductId::new("p.1").unwrap());
        assert_eq!(Key::parse("product.p=2E1"), Some(product));
    }

    #[test]
    fn what_the_bridge_would_not_write_is_no_key() {
        for text in [
            "",
            "device",
            "device.",
            "other.a",
            "Device.a",
            "device.a=2",
            "device.a=",
            "device.a=2e",
            "device.=61",
            "device.a.b",
            "device.=FF",
            "device.=2F",
            "device.=+1",
            "device.a b",
        ] {
            assert_eq!(Key::parse(text), None, "{text}");
        }
    }
}
