//! JSON Schemas of objects and of the values in them.
//!
//! They use only words that draft-07 and 2020-12 share, and no references, so that every tool can read each alone.

use serde_json::{Map, Value, json};

use crate::protocol::id::ID_BYTES_MAX;
use crate::protocol::message::FieldType;

/// Schema of an object whose members are added one by one.
#[derive(Debug, Clone, Default)]
pub(super) struct Object {
    members: Map<String, Value>,
    required: Vec<String>,
}

impl Object {
    /// Adds a member that is always there.
    pub(super) fn with(mut self, name: &str, schema: Value) -> Self {
        self.required.push(name.to_owned());
        self.perhaps(name, schema)
    }

    /// Adds a member that may be missing.
    pub(super) fn perhaps(mut self, name: &str, schema: Value) -> Self {
        self.members.insert(name.to_owned(), schema);
        self
    }

    /// Makes a member one that is always there.
    pub(super) fn require(mut self, name: &str) -> Self {
        if !self.required.iter().any(|own| own == name) {
            self.required.push(name.to_owned());
        }
        self
    }

    /// An object with these members and any others.
    pub(super) fn open(self) -> Value {
        self.schema(true)
    }

    /// An object with these members and no others.
    pub(super) fn closed(self) -> Value {
        self.schema(false)
    }

    fn schema(self, additional: bool) -> Value {
        json!({
            "type": "object",
            "properties": self.members,
            "required": self.required,
            "additionalProperties": additional,
        })
    }
}

/// A field of that type, as the bridge writes it.
pub(super) fn field(field_type: FieldType) -> Value {
    match field_type {
        FieldType::Text => text(),
        FieldType::Number => integer(),
        FieldType::Bool => json!({ "type": "boolean" }),
        FieldType::Object => json!({ "type": "object" }),
        FieldType::Numbers => json!({ "type": "object", "additionalProperties": integer() }),
        FieldType::Texts => json!({ "type": "object", "additionalProperties": text() }),
        FieldType::Array => json!({ "type": "array" }),
        // A null counts as missing.
        FieldType::Any => json!({ "type": ["object", "array", "string", "number", "boolean"] }),
    }
}

/// Any text.
pub(super) fn text() -> Value {
    json!({ "type": "string" })
}

/// A text that is not empty.
pub(super) fn filled() -> Value {
    json!({ "type": "string", "minLength": 1 })
}

/// That text alone.
pub(super) fn word(word: &str) -> Value {
    json!({ "type": "string", "const": word })
}

/// One of these texts.
pub(super) fn one_of(words: impl IntoIterator<Item = impl Into<String>>) -> Value {
    let words: Vec<String> = words.into_iter().map(Into::into).collect();
    json!({ "type": "string", "enum": words })
}

/// A text of that form.
pub(super) fn pattern(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern })
}

/// A whole number of 64 bits.
pub(super) fn integer() -> Value {
    json!({ "type": "integer", "format": "int64", "minimum": i64::MIN, "maximum": i64::MAX })
}

/// A whole number that is not negative.
pub(super) fn count() -> Value {
    json!({ "type": "integer", "format": "int64", "minimum": 0 })
}

/// The id of a product or a device.
pub(super) fn id() -> Value {
    json!({
        "type": "string",
        "minLength": 1,
        "maxLength": ID_BYTES_MAX,
        "pattern": r"^[^/+#\x00-\x1f\x7f-\x9f]+$",
    })
}

/// Bytes as base64 with padding.
pub(super) fn base64() -> Value {
    let form = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$";
    json!({ "type": "string", "contentEncoding": "base64", "pattern": form })
}

/// Time of day in UTC, with milliseconds.
pub(super) fn time() -> Value {
    let form = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$";
    json!({ "type": "string", "format": "date-time", "pattern": form })
}

/// The same schema with a description for people.
pub(super) fn described(mut schema: Value, description: &str) -> Value {
    schema["description"] = description.into();
    schema
}

/// Either of these; the only one where there is one.
pub(super) fn either(mut schemas: Vec<Value>) -> Value {
    match schemas.len() {
        1 => schemas.remove(0),
        _ => json!({ "oneOf": schemas }),
    }
}

/// A schema as a document of its own.
pub(super) fn document(kind: &str, name: &str, description: &str, mut schema: Value) -> Value {
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["$id"] = format!("urn:jetlinks-bridge:{kind}:{name}").into();
    schema["title"] = name.into();
    described(schema, description)
}
