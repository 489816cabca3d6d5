//! Records as JSON, as NATS KV and HTTP give them.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::fields::{Field, Fields, Members};
use super::mistake::{RecordError, RecordMistake};
use super::{Child, Credentials, Device, Product};
use crate::protocol::id::{DeviceId, ProductId};

/// Members of a device's record.
const DEVICE_KEYS: [&str; 7] = ["id", "product", "secureId", "secureKey", "enabled", "gateway", "children"];

/// Members of a product's record.
const PRODUCT_KEYS: [&str; 3] = ["id", "secureId", "secureKey"];

/// Handling of members that no record has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownMembers {
    /// They are passed over: whoever keeps the records may know more of a device than the bridge.
    Tolerated,
    /// Each is a mistake: a person wrote the record for the bridge.
    Refused,
}

/// Reads a device's record.
///
/// # Errors
/// All mistakes; none shows a value of the record, which may be a secret.
pub fn read_device(text: &[u8], unknown: UnknownMembers) -> Result<Device, Vec<RecordError>> {
    let members = members(text)?;
    let mut fields = fields(&members, unknown, &DEVICE_KEYS);
    let id = fields.id("id", DeviceId::new);
    let product = fields.id("product", ProductId::new);
    let credentials = fields.credentials("secureId", "secureKey");
    let enabled = fields.flag("enabled", true);
    let gateway = fields.optional_id("gateway", DeviceId::new);
    let children = children(&mut fields, &members);
    if gateway.is_some() && gateway == id {
        fields.add(RecordError::OwnGateway);
    }
    match (id, product) {
        (Some(id), Some(product)) if fields.mistakes.is_empty() => {
            Ok(Device { id, product, credentials, enabled, gateway, children: children.into() })
        }
        _ => Err(errors(fields)),
    }
}

/// Reads a product's record.
///
/// # Errors
/// As [`read_device`].
pub fn read_product(text: &[u8], unknown: UnknownMembers) -> Result<Product, Vec<RecordError>> {
    let members = members(text)?;
    let mut fields = fields(&members, unknown, &PRODUCT_KEYS);
    let id = fields.id("id", ProductId::new);
    let credentials = fields.credentials("secureId", "secureKey");
    match id {
        Some(id) if fields.mistakes.is_empty() => Ok(Product { id, credentials }),
        _ => Err(errors(fields)),
    }
}

/// The texts of the items of a list, each with the line that it begins in.
///
/// # Errors
/// The text is no list.
pub(super) fn items(text: &str) -> Result<impl Iterator<Item = (usize, &str)>, RecordMistake> {
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| RecordMistake {
        record: String::new(),
        line: error.line(),
        error: RecordError::Json(error.to_string()),
    })?;
    let (mut line, mut seen) = (1, 0);
    Ok(items.into_iter().map(move |item| {
        // An item is a part of the text.
        let begin = (item.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        line += text.as_bytes().get(seen..begin).map_or(0, |passed| memchr::memchr_iter(b'\n', passed).count());
        seen = begin;
        (line, item.get())
    }))
}

/// A device's record as one line of JSON, **its secret included**.
pub fn write_device(device: &Device) -> Vec<u8> {
    let mut object = Map::new();
    object.insert("id".to_owned(), device.id.as_str().into());
    object.insert("product".to_owned(), device.product.as_str().into());
    write_credentials(&mut object, device.credentials.as_ref());
    object.insert("enabled".to_owned(), device.enabled.into());
    if let Some(gateway) = &device.gateway {
        object.insert("gateway".to_owned(), gateway.as_str().into());
    }
    if !device.children.is_empty() {
        let child = |child: &Child| serde_json::json!({"id": child.id.as_str(), "product": child.product.as_str()});
        object.insert("children".to_owned(), device.children.iter().map(child).collect());
    }
    Value::Object(object).to_string().into_bytes()
}

/// A product's record as one line of JSON, **its secret included**.
pub fn write_product(product: &Product) -> Vec<u8> {
    let mut object = Map::new();
    object.insert("id".to_owned(), product.id.as_str().into());
    write_credentials(&mut object, product.credentials.as_ref());
    Value::Object(object).to_string().into_bytes()
}

fn write_credentials(object: &mut Map<String, Value>, credentials: Option<&Credentials>) {
    if let Some(credentials) = credentials {
        object.insert("secureId".to_owned(), (*credentials.secure_id).into());
        object.insert("secureKey".to_owned(), credentials.secure_key.expose().into());
    }
}

impl Members for Map<String, Value> {
    fn names(&self) -> impl Iterator<Item = (&str, usize)> {
        self.keys().map(|key| (key.as_str(), 0))
    }

    fn field(&self, key: &str) -> Option<(Field<'_>, usize)> {
        let field = match self.get(key)? {
            Value::Null => return None,
            Value::String(text) => Field::Text(text),
            Value::Bool(flag) => Field::Flag(*flag),
            _ => Field::Other,
        };
        Some((field, 0))
    }
}

fn members(text: &[u8]) -> Result<Map<String, Value>, Vec<RecordError>> {
    match serde_json::from_slice(text) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(vec![RecordError::NoObject]),
        // The parser tells what it expected and where, never what it found.
        Err(error) => Err(vec![RecordError::Json(error.to_string())]),
    }
}

fn fields<'r>(
    members: &'r Map<String, Value>,
    unknown: UnknownMembers,
    known: &[&str],
) -> Fields<'r, Map<String, Value>> {
    Fields::new(members, 0, (unknown == UnknownMembers::Refused).then_some(known))
}

fn errors<M>(fields: Fields<'_, M>) -> Vec<RecordError> {
    fields.mistakes.into_iter().map(|(_, error)| error).collect()
}

fn children(fields: &mut Fields<'_, Map<String, Value>>, members: &Map<String, Value>) -> Vec<Child> {
    let items = match members.get("children") {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::Array(items)) => items,
        Some(_) => {
            fields.add(RecordError::Type("children", "a list of {id, product}"));
            return Vec::new();
        }
    };
    let text = |item: &Value, key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
    let mut children = Vec::with_capacity(items.len());
    for item in items {
        let (Some(id), Some(product)) = (text(item, "id"), text(item, "product")) else {
            fields.add(RecordError::Type("children", "a list of {id, product}"));
            continue;
        };
        match (DeviceId::new(&id), ProductId::new(&product)) {
            (Ok(id), Ok(product)) => children.push(Child { id, product }),
            (Err(error), _) | (_, Err(error)) => fields.add(RecordError::Id("children", error)),
        }
    }
    children
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(text: &str) -> Result<Device, Vec<String>> {
        read_device(text.as_bytes(), UnknownMembers::Refused)
            .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_record_is_read_with_its_defaults_and_null_is_absent() {
        let read = device(r#"{"id":"device1","product":"product1","secureId":"test","secureKey":"k","gateway":null}"#);
        let read = read.unwrap();
        assert_eq!((read.product.as_str(), read.enabled, &read.gateway), ("product1", true, &None));
        assert_eq!((read.expected().secure_id, read.expected().secure_key), ("test", "k"));
        let bare = device(r#"{"id":"child1","product":"product1","gateway":"gw1","enabled":false}"#).unwrap();
        assert_eq!((bare.credentials.is_none(), bare.enabled), (true, false));
        assert_eq!(bare.gateway.as_ref().map(DeviceId::as_str), Some("gw1"));
    }

    #[test]
    fn a_gateway_lists_its_children() {
        let text = r#"{"id":"gw1","product":"product1","children":[{"id":"child1","product":"product2","name":"x"}]}"#;
        let read = device(text).unwrap();
        let children: Vec<_> = read.children.iter().map(|child| (child.id.as_str(), child.product.as_str())).collect();
        assert_eq!(children, [("child1", "product2")]);
        assert_eq!(read_device(&write_device(&read), UnknownMembers::Refused), Ok(read));
    }

    #[test]
    fn what_is_written_reads_back() {
        let text =
            r#"{"id":"度\"1","product":"product1","secureId":"a","secureKey":"b c","enabled":false,"gateway":"gw1"}"#;
        let read = device(text).unwrap();
        assert_eq!(read_device(&write_device(&read), UnknownMembers::Refused), Ok(read));
        let product =
            read_product(br#"{"id":"product1","secureId":"a","secureKey":"b"}"#, UnknownMembers::Refused).unwrap();
        assert_eq!(read_product(&write_product(&product), UnknownMembers::Refused), Ok(product));
    }

    #[test]
    fn every_mistake_is_told_by_the_name_of_its_member_and_without_its_value() {
        for (text, mistakes) in [
            ("", &["invalid JSON: EOF while parsing a value at line 1 column 0"][..]),
            ("[]", &["not a JSON object"]),
            (r#"{"id":"device1","product":"p"} x"#, &["invalid JSON: trailing characters at line 1 column 32"]),
            ("{}", &["id is missing", "product is missing"]),
            (
                r#"{"id":7,"product":"a/b","secureId":"hush","enabled":"yes","colour":"red"}"#,
                &[
                    "unknown key \"colour\"",
                    "id must be a text in quotes",
                    "product: an id must not contain '/'",
                    "secureId and secureKey go together, and neither may be empty",
                    "enabled must be true or false",
                ],
            ),
            (
                r#"{"id":"a","product":"p","secureId":"x","secureKey":4711,"gateway":"a"}"#,
                &["secureKey must be a text in quotes", "a device is not its own gateway"],
            ),
            (r#"{"id":"a","product":"p","secureId":"a|b","secureKey":"k"}"#, &["secureId must not contain |"]),
            (
                r#"{"id":"a","product":"p","children":[{"id":"c"},{"id":"c/d","product":"p"}]}"#,
                &["children must be a list of {id, product}", "children: an id must not contain '/'"],
            ),
            (r#"{"id":"a","product":"p","children":{}}"#, &["children must be a list of {id, product}"]),
        ] {
            assert_eq!(device(text).unwrap_err(), mistakes, "{text}");
        }
    }

    #[test]
    fn members_that_the_bridge_does_not_know_are_tolerated_from_a_service() {
        let text = br#"{"id":"device1","product":"product1","name":"Pump 7"}"#;
        assert!(read_device(text, UnknownMembers::Tolerated).is_ok());
        assert_eq!(read_device(text, UnknownMembers::Refused), Err(vec![RecordError::UnknownKey("name".to_owned())]));
    }
}
