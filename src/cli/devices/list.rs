//! `devices ls`: who is in the bucket.

use std::io::Write;

use serde_json::json;

use super::LsArgs;
use crate::cli::output::{self, Output};
use crate::registry::Device;
use crate::registry::nats::StoredDevice;

/// The devices as text; records that cannot be read go to `err`.
pub(super) fn show(devices: &[StoredDevice], args: &LsArgs, err: &mut dyn Write) -> String {
    let mut shown = Vec::new();
    for device in devices {
        match device {
            StoredDevice::Device(device) => {
                if args.product.as_ref().is_none_or(|product| device.product.as_str() == product) {
                    shown.push(device);
                }
            }
            StoredDevice::Unreadable(key, mistakes) => {
                let mistakes: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
                // Nobody is left to tell when stderr is closed.
                let mistakes = mistakes.join("; ");
                let _ = writeln!(err, "devices: {}: {}", key.text(), output::escaped(&mistakes));
            }
        }
    }
    match args.output {
        Output::Json => shown.iter().map(|device| object(device)).collect(),
        Output::Text => table(&shown),
    }
}

fn object(device: &Device) -> String {
    let children = device.children.iter();
    let children: Vec<_> =
        children.map(|child| json!({"id": child.id.as_str(), "product": child.product.as_str()})).collect();
    let object = json!({
        "id": device.id.as_str(),
        "product": device.product.as_str(),
        "enabled": device.enabled,
        "secureId": device.credentials.as_ref().map(|credentials| &credentials.secure_id),
        "gateway": device.gateway.as_ref().map(|gateway| gateway.as_str()),
        "children": children,
    });
    format!("{object}\n")
}

fn table(devices: &[&Device]) -> String {
    let row = |device: &&Device| {
        let gateway = device.gateway.as_ref().map_or("-", |gateway| gateway.as_str());
        let secret = device.credentials.as_ref().map_or("-", |credentials| &credentials.secure_id);
        let state = if device.enabled { "enabled" } else { "disabled" };
        [device.id.as_str(), device.product.as_str(), state, gateway, secret]
            .map(|text| output::escaped(text).into_owned())
    };
    let head = ["DEVICE", "PRODUCT", "STATE", "GATEWAY", "SECURE ID"].map(str::to_owned);
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(devices.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..4).map(width).collect();
    let mut text = String::new();
    for [device, product, state, gateway, secret] in &rows {
        let (a, b, c, d) = (widths[0], widths[1], widths[2], widths[3]);
        text.push_str(&format!("{device:a$}  {product:b$}  {state:c$}  {gateway:d$}  {secret}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::id::DeviceId;
    use crate::registry::nats::Key;
    use crate::registry::{RecordError, UnknownMembers, read_device};

    fn devices() -> Vec<StoredDevice> {
        let read = |text: &str| StoredDevice::Device(read_device(text.as_bytes(), UnknownMembers::Refused).unwrap());
        vec![
            read(r#"{"id":"child1","product":"product2","gateway":"gw1","enabled":false}"#),
            StoredDevice::Unreadable(Key::Device(DeviceId::new("d.1").unwrap()), vec![RecordError::NoObject]),
            read(
                r#"{"id":"gw1","product":"p","secureId":"test","secureKey":"hush","children":[{"id":"c","product":"q"}]}"#,
            ),
        ]
    }

    fn shown(product: Option<&str>, output: Output) -> (String, String) {
        let mut err = Vec::new();
        let args = LsArgs { product: product.map(str::to_owned), output };
        let out = show(&devices(), &args, &mut err);
        (out, String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_list_shows_everything_but_keys() {
        let (out, err) = shown(None, Output::Text);
        let expected = "DEVICE  PRODUCT   STATE     GATEWAY  SECURE ID\n\
                        child1  product2  disabled  gw1      -\n\
                        gw1     p         enabled   -        test\n";
        assert_eq!((out.as_str(), err.as_str()), (expected, "devices: device.d=2E1: not a JSON object\n"));
        assert!(!out.contains("hush"));
    }

    #[test]
    fn a_list_is_json_where_asked_for_and_narrowed_to_a_product() {
        let (out, _) = shown(Some("p"), Output::Json);
        let expected = r#"{"children":[{"id":"c","product":"q"}],"enabled":true,"gateway":null,"id":"gw1","product":"p","secureId":"test"}"#;
        assert_eq!(out, format!("{expected}\n"));
        assert_eq!(shown(Some("nothing"), Output::Text).0.lines().count(), 1);
    }
}
