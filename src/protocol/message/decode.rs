//! From a payload to a [`Message`].

use std::borrow::Cow;

use smallvec::SmallVec;

use super::field::{FieldType, Value, field_type, text};
use super::{Field, Message};
use crate::protocol::json::{JsonError, Kind, Member, scan, unescape, whole_i64, whole_text_i64};
use crate::protocol::topic::{MessageType, Route};

/// Members of an object; those of nearly all messages need no allocation.
pub(crate) type Members<'a> = SmallVec<[Member<'a>; 8]>;

/// Up to this many members each pair is compared; beyond, they are sorted.
const PAIRS_MAX: usize = 16;

/// Error of a payload that is not a message of its type. Its text becomes the rejected envelope's `detail`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// It is not one JSON object.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A field that the type has holds something else.
    #[error("{name} is not {}", .expected.description())]
    Field {
        /// The field.
        name: String,
        /// The type that it should have.
        expected: FieldType,
    },
}

/// Decodes the payload that came on the route, received at `now_ms` (ms since 1970).
///
/// # Errors
/// [`Undecodable`] says what is wrong with it. The payload of [`MessageType::Direct`] is never undecodable.
pub fn decode<'a>(route: &Route<'_>, payload: &'a [u8], now_ms: u64) -> Result<Message<'a>, Undecodable> {
    let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let message_type = route.message_type;
    let mut message = Message {
        message_type,
        message_id: None,
        timestamp: now_ms,
        success: None,
        code: None,
        headers: None,
        fields: Vec::new(),
        raw: payload,
    };
    if message_type == MessageType::Direct {
        return Ok(message);
    }
    let members = match payload {
        [] if message_type.allows_empty_body() => Members::new(),
        payload => last_of_each(payload)?,
    };
    message.fields.reserve_exact(members.len());
    for member in &members {
        let key = key(member);
        let name = match &*key {
            "deviceId" | "event" | "messageType" | "thingId" | "thingType" => continue,
            "timestamp" => {
                message.timestamp = match timestamp(member) {
                    Ok(None) => now_ms,
                    Ok(Some(timestamp)) => timestamp,
                    Err(()) => return Err(mismatch("timestamp", FieldType::Number)),
                };
                continue;
            }
            name => name,
        };
        let value = match field_type(message_type, name) {
            None => Value::untouched(member),
            Some(expected) => match Value::fit(expected, member) {
                Ok(None) => continue,
                Ok(Some(value)) => {
                    match (name, expected, value) {
                        ("messageId", _, _) => {
                            message.message_id = Some(value);
                            continue;
                        }
                        ("code", _, _) => message.code = Some(value),
                        ("success", FieldType::Bool, Value::Bool(success)) => message.success = Some(success),
                        ("headers", _, Value::Verbatim(json) | Value::Irregular(json)) => message.headers = Some(json),
                        _ => {}
                    }
                    value
                }
                Err(()) => return Err(mismatch(name, expected)),
            },
        };
        message.fields.push(Field { key: member.key, key_escaped: member.key_escaped, value });
    }
    if message.success.is_none() {
        message.success = match message_type {
            MessageType::UpgradeFirmwareProgress => Some(false),
            _ => message_type.is_reply().then_some(true),
        };
    }
    Ok(message)
}

/// The `messageId` of a payload that [`decode`] refuses for another field: it is one JSON object, and has one that is a
/// text as that of a message. `None` else, and where it is empty. A caller waits for the reply to its command even when that
/// cannot be read.
pub fn message_id(payload: &[u8]) -> Option<Cow<'_, str>> {
    let members = last_of_each(payload).ok()?;
    let member = members.iter().find(|member| key(member) == "messageId")?;
    let text = Value::fit(FieldType::Text, member).ok()??.as_text()?;
    (!text.is_empty()).then_some(text)
}

/// The answer to a question for the time: JSON for `time-sync/reply`. An empty question stands for `{}`.
///
/// # Errors
/// [`Undecodable`] when the question is no JSON object, or its `messageId` no text.
pub fn time_sync_answer(payload: &[u8], now_ms: u64) -> Result<Vec<u8>, Undecodable> {
    let mut answer = Vec::with_capacity(64);
    answer.push(b'{');
    let members = if payload.is_empty() { Members::new() } else { last_of_each(payload)? };
    for member in members {
        if key(&member) == "messageId" {
            let message_id =
                Value::fit(FieldType::Text, &member).map_err(|()| mismatch("messageId", FieldType::Text))?;
            if let Some(message_id) = message_id {
                answer.extend_from_slice(b"\"messageId\":");
                message_id.write(&mut answer);
                answer.push(b',');
            }
        }
    }
    answer.extend_from_slice(format!("\"timestamp\":{now_ms}}}").as_bytes());
    Ok(answer)
}

/// The members of the payload's object in their order; of equal keys (after their escapes) the last stays.
///
/// # Errors
/// As [`scan`].
pub(crate) fn last_of_each(payload: &[u8]) -> Result<Members<'_>, JsonError> {
    let mut members = Members::new();
    let mut escaped = false;
    scan(payload, |member| {
        escaped |= member.key_escaped;
        members.push(member);
    })?;
    if members.len() <= PAIRS_MAX && !escaped {
        let twice =
            |(index, member): (usize, &Member<'_>)| members[..index].iter().any(|other| other.key == member.key);
        if !members.iter().enumerate().any(twice) {
            return Ok(members);
        }
    }
    let keys: Vec<_> = members.iter().map(key).collect();
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_unstable_by(|a, b| keys[*a].cmp(&keys[*b]).then(a.cmp(b)));
    let mut last = vec![true; members.len()];
    for pair in order.windows(2) {
        if keys[pair[0]] == keys[pair[1]] {
            last[pair[0]] = false;
        }
    }
    let mut last = last.into_iter();
    members.retain(|_| last.next().unwrap_or(true));
    Ok(members)
}

fn mismatch(name: &str, expected: FieldType) -> Undecodable {
    Undecodable::Field { name: name.to_owned(), expected }
}

/// A member's key without escapes.
pub(crate) fn key<'a>(member: &Member<'a>) -> Cow<'a, str> {
    if member.key_escaped { unescape(member.key) } else { Cow::Borrowed(member.key) }
}

/// A timestamp in ms; `Ok(None)` where the time of receipt stands in.
pub(crate) fn timestamp(member: &Member<'_>) -> Result<Option<i64>, ()> {
    let number = match member.kind {
        Kind::Null => return Ok(None),
        Kind::Number => whole_i64(member.value),
        Kind::Text if member.value == "\"\"" => return Ok(None),
        Kind::Text => whole_text_i64(&text(member.value)),
        Kind::Object | Kind::Array | Kind::Bool => None,
    };
    number.map(|number| (number != 0).then_some(number)).ok_or(())
}
