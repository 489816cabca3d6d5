//! Fields of message types.

use std::borrow::Cow;

use bytes::BufMut;

use super::decode::last_of_each;
use crate::protocol::json::{Kind, Member, compact, unescape, whole_i64, whole_text_i64};
use crate::protocol::topic::MessageType;

use MessageType as T;

/// Type of a field that a message type has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// Text; numbers and booleans become text, digits as written.
    Text,
    /// A whole number of 64 bits with sign: a number (its fraction is cut) or a text that is one.
    Number,
    /// A boolean, or `"true"` or `"false"` in any case, or a whole number, also as text (0 is false); `null` and `""` are
    /// false.
    Bool,
    /// An object.
    Object,
    /// An object whose values are [`FieldType::Number`]s.
    Numbers,
    /// An object whose values are [`FieldType::Text`]s.
    Texts,
    /// A list.
    Array,
    /// Anything.
    Any,
}

impl FieldType {
    /// Description of the type, for people.
    pub fn description(self) -> &'static str {
        match self {
            FieldType::Text => "a text",
            FieldType::Number => "a whole number of 64 bits",
            FieldType::Bool => "a boolean",
            FieldType::Object => "an object",
            FieldType::Numbers => "an object of whole numbers of 64 bits",
            FieldType::Texts => "an object of texts",
            FieldType::Array => "a list",
            FieldType::Any => "a value",
        }
    }
}

/// Fields of every type.
const COMMON: &[(&str, FieldType)] =
    &[("messageId", FieldType::Text), ("code", FieldType::Text), ("headers", FieldType::Object)];

/// Further fields of replies.
const OF_REPLIES: &[(&str, FieldType)] = &[("success", FieldType::Bool), ("message", FieldType::Text)];

/// Fields of one type alone.
fn own_fields(message_type: MessageType) -> &'static [(&'static str, FieldType)] {
    use FieldType::{Any, Array, Bool, Number, Numbers, Object, Text, Texts};
    match message_type {
        T::ReportProperty | T::ReadPropertyReply | T::WritePropertyReply => {
            &[("properties", Object), ("propertySourceTimes", Numbers), ("propertyStates", Texts)]
        }
        T::ReadProperty => &[("properties", Array)],
        T::WriteProperty => &[("properties", Object)],
        T::Event => &[("data", Any)],
        T::InvokeFunction => &[("function", Text), ("functionId", Text), ("inputs", Array)],
        T::InvokeFunctionReply => &[("output", Any), ("functionId", Text)],
        T::UpdateTag => &[("tags", Object)],
        T::Log => &[("log", Text)],
        T::Direct => &[("payload", Text)],
        T::DerivedMetadata => &[("metadata", Text), ("all", Bool)],
        T::UpgradeFirmware | T::RequestFirmwareReply => &[
            ("url", Text),
            ("version", Text),
            ("sign", Text),
            ("signMethod", Text),
            ("firmwareId", Text),
            ("parameters", Object),
            ("size", Number),
        ],
        T::UpgradeFirmwareProgress => &[
            ("progress", Number),
            ("complete", Bool),
            ("success", Bool),
            ("version", Text),
            ("errorReason", Text),
            ("firmwareId", Text),
        ],
        T::RequestFirmware => &[("currentVersion", Text), ("requestVersion", Text)],
        T::ReportFirmware | T::ReadFirmwareReply => &[("version", Text), ("properties", Object)],
        T::StateCheckReply => &[("state", Number)],
        T::ReportCollector | T::ReadCollectorDataReply | T::WriteCollectorDataReply | T::WriteCollectorData => {
            &[("data", Array)]
        }
        T::ReadCollectorData => &[("addresses", Array)],
        _ => &[],
    }
}

/// Every field that a message type has, with its type.
///
/// The names that the bridge itself decides (`deviceId`, `messageType`, …) and `timestamp` are not among them.
pub fn fields(message_type: MessageType) -> impl Iterator<Item = (&'static str, FieldType)> {
    let of_replies = if message_type.is_reply() { OF_REPLIES } else { &[] };
    // Those of the type alone come first: reports have little else, and each of their members is looked up.
    own_fields(message_type).iter().chain(COMMON).chain(of_replies).copied()
}

/// The type of a field that a message type has; `None` for fields that it does not have, which stay untouched.
pub fn field_type(message_type: MessageType, name: &str) -> Option<FieldType> {
    fields(message_type).find(|(field, _)| *field == name).map(|(_, field_type)| field_type)
}

/// The fields of a type that are written even when the device leaves them out, with the value they get then.
pub fn defaults(message_type: MessageType) -> &'static [(&'static str, &'static str)] {
    match message_type {
        T::StateCheckReply => &[("state", "0"), ("success", "true")],
        T::UpgradeFirmwareProgress => &[("progress", "0"), ("complete", "false"), ("success", "false")],
        T::UpdateTag => &[("tags", "{}")],
        T::DerivedMetadata => &[("all", "false")],
        _ if message_type.is_reply() => &[("success", "true")],
        _ => &[],
    }
}

/// The value of a field as it will be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// JSON as it came.
    Verbatim(&'a str),
    /// JSON that must be made compact first.
    Irregular(&'a str),
    /// A number or boolean that becomes text: its digits or letters.
    Quoted(&'a str),
    /// An object whose values must be written as fields of that type, and of which those that are null are left out.
    Fields(&'a str, FieldType),
    /// A whole number.
    Integer(i64),
    /// A boolean.
    Bool(bool),
}

impl<'a> Value<'a> {
    /// The value of a field that is not known: as it came.
    pub fn untouched(member: &Member<'a>) -> Value<'a> {
        if member.irregular { Value::Irregular(member.value) } else { Value::Verbatim(member.value) }
    }

    /// Fits a member to a known field; `Ok(None)` when it counts as absent.
    ///
    /// # Errors
    /// `()` when the field cannot hold the member's value.
    #[expect(
        clippy::result_unit_err,
        reason = "the caller knows the field's name and type, which is all there is to say"
    )]
    pub fn fit(field_type: FieldType, member: &Member<'a>) -> Result<Option<Value<'a>>, ()> {
        let value = member.value;
        Ok(Some(match (field_type, member.kind) {
            (FieldType::Bool, Kind::Null) => Value::Bool(false),
            (_, Kind::Null) => return Ok(None),
            (FieldType::Any, _) | (FieldType::Object, Kind::Object) | (FieldType::Array, Kind::Array) => {
                Value::untouched(member)
            }
            (FieldType::Numbers, Kind::Object) => Value::fit_each(FieldType::Number, member)?,
            (FieldType::Texts, Kind::Object) => Value::fit_each(FieldType::Text, member)?,
            (FieldType::Text, Kind::Text) => Value::Verbatim(value),
            (FieldType::Text, Kind::Number | Kind::Bool) => Value::Quoted(value),
            (FieldType::Number, Kind::Number) => Value::Integer(whole_i64(value).ok_or(())?),
            (FieldType::Number, Kind::Text) => Value::Integer(whole_text_i64(&text(value)).ok_or(())?),
            (FieldType::Bool, Kind::Bool) => Value::Bool(value == "true"),
            (FieldType::Bool, Kind::Number) => Value::Bool(boolean(value).ok_or(())?),
            (FieldType::Bool, Kind::Text) => Value::Bool(boolean_text(&text(value)).ok_or(())?),
            _ => return Err(()),
        }))
    }

    /// Fits each value of an object to that type.
    fn fit_each(field_type: FieldType, member: &Member<'a>) -> Result<Value<'a>, ()> {
        // The object was scanned as part of the payload, so this finds nothing wrong.
        let fields = last_of_each(member.value.as_bytes()).map_err(drop)?;
        let mut is_verbatim = !member.irregular;
        for field in &fields {
            is_verbatim &= match Value::fit(field_type, field)? {
                Some(Value::Verbatim(_)) => true,
                Some(Value::Integer(_)) => field.value != "-0" && field.value.parse::<i64>().is_ok(),
                _ => false,
            };
        }
        Ok(if is_verbatim { Value::Verbatim(member.value) } else { Value::Fields(member.value, field_type) })
    }

    /// Writes the value as JSON.
    pub fn write(&self, out: &mut impl BufMut) {
        match self {
            Value::Verbatim(json) => out.put_slice(json.as_bytes()),
            Value::Irregular(json) => out.put_slice(&compact(json)),
            Value::Quoted(text) => {
                out.put_u8(b'"');
                out.put_slice(text.as_bytes());
                out.put_u8(b'"');
            }
            Value::Fields(json, field_type) => {
                let mut separator = b'{';
                for field in last_of_each(json.as_bytes()).unwrap_or_default() {
                    let Ok(Some(value)) = Value::fit(*field_type, &field) else { continue };
                    out.put_u8(separator);
                    out.put_u8(b'"');
                    out.put_slice(field.key.as_bytes());
                    out.put_slice(b"\":");
                    value.write(out);
                    separator = b',';
                }
                out.put_slice(if separator == b'{' { b"{}" } else { b"}" });
            }
            Value::Integer(number) => write_integer(out, *number),
            Value::Bool(value) => out.put_slice(if *value { b"true" } else { b"false" }),
        }
    }

    /// The text that the value is; `None` when it is none.
    pub fn as_text(&self) -> Option<Cow<'a, str>> {
        match *self {
            Value::Verbatim(json) if json.starts_with('"') => Some(text(json)),
            Value::Quoted(text) => Some(Cow::Borrowed(text)),
            _ => None,
        }
    }

    /// Upper bound of the bytes that [`Value::write`] writes.
    pub(super) fn written_bytes_max(&self) -> usize {
        match self {
            Value::Verbatim(json) | Value::Irregular(json) => json.len(),
            Value::Quoted(text) => text.len() + 2,
            // The shortest field that grows most is `"":9e18,`: 8 bytes become 24.
            Value::Fields(json, _) => 3 * json.len(),
            Value::Integer(_) | Value::Bool(_) => 20,
        }
    }
}

/// The boolean that a text is: `true` or `false` in any case, a whole number, or nothing at all, which is false.
pub(crate) fn boolean_text(text: &str) -> Option<bool> {
    match text {
        "" => Some(false),
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => boolean(text),
    }
}

/// The boolean that a whole number is, whatever its size.
fn boolean(number: &str) -> Option<bool> {
    let digits = number.strip_prefix('-').unwrap_or(number);
    let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_whole.then(|| digits.bytes().any(|byte| byte != b'0'))
}

/// Writes a whole number in decimal.
pub fn write_integer(out: &mut impl BufMut, number: i64) {
    out.put_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The text of a JSON string that was checked.
pub(crate) fn text(json: &str) -> Cow<'_, str> {
    unescape(&json[1..json.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_written_in_decimal() {
        for number in [0, 7, -1, 10, 1_601_196_762_389, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            write_integer(&mut out, number);
            assert_eq!(String::from_utf8_lossy(&out), number.to_string());
        }
    }

    #[test]
    fn no_type_has_two_fields_of_one_name() {
        for message_type in MessageType::all() {
            let names: Vec<_> = fields(message_type).map(|(name, _)| name).collect();
            let twice = names.iter().enumerate().find(|(index, name)| names[..*index].contains(name));
            assert_eq!(twice, None, "{}", message_type.name());
        }
    }

    #[test]
    fn every_default_is_a_field_of_its_type() {
        for message_type in MessageType::all() {
            for (name, _) in defaults(message_type) {
                assert!(field_type(message_type, name).is_some(), "{} {name}", message_type.name());
            }
        }
    }
}
