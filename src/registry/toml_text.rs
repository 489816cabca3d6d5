//! Records as TOML, as the file of a registry holds them.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::{Credentials, Device, Product};

/// The records as the file of a registry, **their secrets included**. A child that its gateway alone names becomes a record of
/// its own, as a file has no lists of children.
pub fn write_toml(products: &[Product], devices: &[Device]) -> String {
    let mut text = String::new();
    for product in products {
        table(&mut text, "product", &[("id", product.id.as_str())], product.credentials.as_ref());
    }
    let own: HashSet<&str> = devices.iter().map(|device| device.id.as_str()).collect();
    for device in devices {
        let mut members = vec![("id", device.id.as_str()), ("product", device.product.as_str())];
        members.extend(device.gateway.as_ref().map(|gateway| ("gateway", gateway.as_str())));
        table(&mut text, "device", &members, device.credentials.as_ref());
        if !device.enabled {
            text.truncate(text.len() - 1);
            text.push_str("enabled = false\n\n");
        }
        for child in device.children.iter().filter(|child| !own.contains(child.id.as_str())) {
            let (id, product, gateway) = (child.id.as_str(), child.product.as_str(), device.id.as_str());
            table(&mut text, "device", &[("id", id), ("product", product), ("gateway", gateway)], None);
        }
    }
    text
}

fn table(text: &mut String, kind: &str, members: &[(&str, &str)], credentials: Option<&Credentials>) {
    let secret = credentials.map(|own| [("secure_id", &*own.secure_id), ("secure_key", own.secure_key.expose())]);
    // Writing into a text does not fail.
    let _written = writeln!(text, "[[{kind}]]");
    for (name, value) in members.iter().copied().chain(secret.into_iter().flatten()) {
        // A text of JSON is one of TOML, too, and stays one when what terminals obey is escaped in it.
        let _written = writeln!(text, "{name} = {}", serde_json::Value::from(value));
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Records, UnknownMembers, read_device, read_product};

    #[test]
    fn what_is_written_reads_back() {
        let device = |text: &str| read_device(text.as_bytes(), UnknownMembers::Refused).unwrap();
        let devices = [
            device(r#"{"id":"度\"1","product":"p","secureId":"a","secureKey":"b\\ c","enabled":false}"#),
            device(r#"{"id":"child1","product":"p","gateway":"gw1"}"#),
        ];
        let product = read_product(br#"{"id":"p","secureId":"a","secureKey":"b"}"#, UnknownMembers::Refused).unwrap();
        let records = Records::read(&write_toml(std::slice::from_ref(&product), &devices), true);
        assert_eq!(records.mistakes, []);
        let read: Vec<_> = records.devices.iter().map(|device| &*device.record).collect();
        assert_eq!((read, &records.products[0].record), (devices.iter().collect(), &product));
    }

    #[test]
    fn children_that_their_gateway_names_become_records() {
        let gateway =
            r#"{"id":"gw1","product":"p","secureId":"a","secureKey":"b","children":[{"id":"child1","product":"q"}]}"#;
        let gateway = read_device(gateway.as_bytes(), UnknownMembers::Refused).unwrap();
        let records = Records::read(&write_toml(&[], &[gateway]), false);
        let child = &records.devices[1].record;
        assert_eq!((child.id.as_str(), child.product.as_str()), ("child1", "q"));
        assert_eq!(child.gateway.as_ref().map(|gateway| gateway.as_str()), Some("gw1"));
    }
}
