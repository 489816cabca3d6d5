//! A command while it is put together.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::value::{RawValue, to_raw_value};

use super::args::DeviceAddress;
use crate::protocol::address::command_address;
use crate::protocol::command::{Command, CommandBody};
use crate::protocol::id::DeviceId;
use crate::protocol::topic::MessageType;

/// Members of a JSON object; values stay as they are written, digits of numbers included.
type Members = BTreeMap<String, Box<RawValue>>;

/// A command as text, and what it was read as.
#[derive(Debug)]
pub struct CommandInput {
    members: Members,
    headers: Members,
    /// Given by `--device` rather than in the text.
    address: Option<(DeviceAddress, MessageType)>,
    /// The bytes of `direct`.
    raw: Option<Vec<u8>>,
}

impl CommandInput {
    /// Takes a command that names its device itself, or the fields of one for that address.
    ///
    /// # Errors
    /// A sentence, if the text or its `headers` is no JSON object.
    pub fn new(text: &[u8], address: Option<(DeviceAddress, MessageType)>) -> Result<Self, String> {
        if let Some((_, MessageType::Direct)) = &address {
            let payload = raw(&BASE64.encode(text))?;
            let members = Members::from([("payload".to_owned(), payload)]);
            return Ok(Self { members, headers: Members::new(), address, raw: Some(text.to_vec()) });
        }
        let text = if text.trim_ascii().is_empty() && address.is_some() { b"{}" } else { text };
        let members: Members =
            serde_json::from_slice(text).map_err(|error| format!("the command is no JSON object: {error}"))?;
        let headers = match members.get("headers").filter(|headers| headers.get() != "null") {
            Some(headers) => serde_json::from_str(headers.get()).map_err(|_| "headers must be an object".to_owned())?,
            None => Members::new(),
        };
        Ok(Self { members, headers, address, raw: None })
    }

    /// Sets a header of the command.
    pub fn set_header(&mut self, name: &str, value: &serde_json::Value) -> Result<(), String> {
        self.headers.insert(name.to_owned(), raw(value)?);
        self.members.insert("headers".to_owned(), to_raw_value(&self.headers).map_err(|error| error.to_string())?);
        Ok(())
    }

    /// The command as the bridge will read it.
    ///
    /// # Errors
    /// The refusal of the bridge, in words.
    pub fn command(&self) -> Result<Command, String> {
        let read = match &self.address {
            Some((address, message_type)) => {
                let payload = self.raw.clone().unwrap_or_else(|| object(&self.members).into_bytes());
                Command::from_subject(&subject(address, *message_type), &payload)
            }
            None => Command::from_json(object(&self.members).as_bytes()),
        };
        read.map_err(|error| error.text().to_owned())
    }

    /// Subject below `command` of the prefix, and payload, as NATS wants them.
    pub fn request(&self, command: &Command) -> (String, Vec<u8>) {
        let payload = match &command.body {
            CommandBody::Raw(bytes) => bytes.clone(),
            CommandBody::Members(_) => object(&self.members).into_bytes(),
        };
        (command.address(), payload)
    }

    /// Key and value, as the topic of commands wants them.
    ///
    /// # Errors
    /// A sentence, if the device cannot be named there.
    pub fn record(&self, command: &Command) -> Result<(String, String), String> {
        let mut members: BTreeMap<&str, &RawValue> =
            self.members.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect();
        let [message_type, product, device, about] =
            [command.message_type.name(), &command.product, &command.device, command.about()].map(raw);
        let (message_type, product, device, about) = (message_type?, product?, device?, about?);
        members.insert("messageType", &message_type);
        members.insert("productId", &product);
        members.insert("deviceId", &about);
        match command.children.len() {
            0 => {}
            1 => drop(members.insert("gatewayId", &device)),
            _ => return Err("a child of a child has no address on Kafka".to_owned()),
        }
        Ok((command.device.clone(), serde_json::to_string(&members).map_err(|error| error.to_string())?))
    }
}

fn subject(address: &DeviceAddress, message_type: MessageType) -> String {
    let children: Vec<&str> = address.children.iter().map(DeviceId::as_str).collect();
    command_address(address.product.as_str(), address.device.as_str(), &children, message_type.dotted())
}

fn object(members: &Members) -> String {
    // Every value is JSON already, and names are texts.
    serde_json::to_string(members).expect("members of raw values")
}

fn raw<T: serde::Serialize + ?Sized>(value: &T) -> Result<Box<RawValue>, String> {
    to_raw_value(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::id::{DeviceId, ProductId};

    fn address(children: &[&str]) -> DeviceAddress {
        DeviceAddress {
            product: ProductId::new("product1").unwrap(),
            device: DeviceId::new("gw.1").unwrap(),
            children: children.iter().map(|id| DeviceId::new(id).unwrap()).collect(),
        }
    }

    #[test]
    fn a_command_in_json_goes_to_either_queue_with_its_digits() {
        let text = br#"{"messageType":"WRITE_PROPERTY","productId":"product1","deviceId":"child1","gatewayId":"gw1","properties":{"t":1.50,"n":12345678901234567890}}"#;
        let input = CommandInput::new(text, None).unwrap();
        let command = input.command().unwrap();
        let (subject, payload) = input.request(&command);
        assert_eq!(subject, "product1.gw1.child.child1.properties.write");
        let (key, value) = input.record(&command).unwrap();
        assert_eq!((key.as_str(), value.as_bytes()), ("gw1", payload.as_slice()));
        assert!(value.contains(r#""properties":{"t":1.50,"n":12345678901234567890}"#), "{value}");
    }

    #[test]
    fn a_command_for_an_address_gets_what_it_lacks() {
        let input = CommandInput::new(b"", Some((address(&["child1"]), MessageType::ReadProperty))).unwrap();
        let command = input.command().unwrap();
        assert_eq!(
            input.request(&command),
            ("product1.gw%2E1.child.child1.properties.read".to_owned(), b"{}".to_vec())
        );
        let expected =
            r#"{"deviceId":"child1","gatewayId":"gw.1","messageType":"READ_PROPERTY","productId":"product1"}"#;
        assert_eq!(input.record(&command), Ok(("gw.1".to_owned(), expected.to_owned())));
        let deep = CommandInput::new(b"", Some((address(&["a", "b"]), MessageType::ReadProperty))).unwrap();
        let command = deep.command().unwrap();
        assert_eq!(deep.request(&command).0, "product1.gw%2E1.child.a.child.b.properties.read");
        assert!(deep.record(&command).is_err());
    }

    #[test]
    fn direct_is_bytes_on_nats_and_base64_on_kafka() {
        for input in [
            CommandInput::new(b"\x00\x01", Some((address(&[]), MessageType::Direct))).unwrap(),
            CommandInput::new(
                br#"{"messageType":"DIRECT","productId":"product1","deviceId":"gw.1","payload":"AAE="}"#,
                None,
            )
            .unwrap(),
        ] {
            let command = input.command().unwrap();
            assert_eq!(input.request(&command), ("product1.gw%2E1.direct".to_owned(), vec![0, 1]));
            assert!(input.record(&command).unwrap().1.contains(r#""payload":"AAE=""#));
        }
    }

    #[test]
    fn headers_are_added_to_those_that_are_there() {
        let mut input =
            CommandInput::new(br#"{"headers":{"a":1.0}}"#, Some((address(&[]), MessageType::ReadProperty))).unwrap();
        input.set_header("timeout", &1500.into()).unwrap();
        input.set_header("correlation-id", &"c1".into()).unwrap();
        let command = input.command().unwrap();
        assert_eq!((command.timeout_ms, command.correlation_id.as_deref()), (Some(1500), Some("c1")));
        assert!(
            input.record(&command).unwrap().1.contains(r#""headers":{"a":1.0,"correlation-id":"c1","timeout":1500}"#)
        );
    }

    #[test]
    fn what_the_bridge_would_refuse_is_refused_here() {
        let refused = |text: &str| match CommandInput::new(text.as_bytes(), None) {
            Ok(input) => input.command().unwrap_err(),
            Err(text) => text,
        };
        assert!(refused("[]").starts_with("the command is no JSON object"));
        assert_eq!(refused(r#"{"headers":1}"#), "headers must be an object");
        assert_eq!(refused(r#"{"productId":"p","deviceId":"d"}"#), "messageType is missing");
        let missing = r#"{"messageType":"INVOKE_FUNCTION","productId":"p","deviceId":"d"}"#;
        assert_eq!(refused(missing), "functionId is missing");
        let up = r#"{"messageType":"EVENT","productId":"p","deviceId":"d"}"#;
        assert_eq!(refused(up), "EVENT does not go to devices");
    }
}
