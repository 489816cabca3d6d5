//! Answers of simulated devices to commands.

use serde_json::{Map, Value, json};

/// Reaction of a device to a command.
#[derive(Debug, PartialEq)]
pub(super) enum Response {
    /// Publish this body on this topic.
    Reply { topic: String, body: Vec<u8> },
    /// Commands of this kind have no reply.
    Nothing,
}

/// Rest of a command's topic behind the addresses: `properties/read` in `/p/g/child/c/properties/read`.
pub(super) fn suffix(topic: &str) -> &str {
    let mut rest = topic.strip_prefix('/').unwrap_or(topic);
    for _ in 0..2 {
        rest = rest.split_once('/').map_or("", |(_, rest)| rest);
    }
    while let Some((_, after)) = rest.strip_prefix("child/").and_then(|rest| rest.split_once('/')) {
        rest = after;
    }
    rest
}

/// Answers a command as a healthy device would. A body that is no JSON object counts as an empty one.
pub(super) fn respond(device: &str, topic: &str, body: &[u8]) -> Response {
    let command: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    let mut reply = Map::new();
    match suffix(topic) {
        "properties/read" => {
            let names = command.get("properties").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let values = names.iter().filter_map(Value::as_str).map(|name| (name.to_owned(), property(device, name)));
            reply.insert("properties".to_owned(), Value::Object(values.collect()));
        }
        "properties/write" => {
            reply.insert("properties".to_owned(), command.get("properties").cloned().unwrap_or_else(|| json!({})));
        }
        "function/invoke" => {
            let inputs = command.get("inputs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let pairs = inputs.iter().filter_map(|input| {
                let name = input.get("name")?.as_str()?.to_owned();
                Some((name, input.get("value").cloned().unwrap_or(Value::Null)))
            });
            reply.insert("output".to_owned(), Value::Object(pairs.collect()));
            let function = command.get("functionId").or_else(|| command.get("function"));
            reply.extend(function.map(|function| ("functionId".to_owned(), function.clone())));
        }
        "firmware/read" => {
            reply.insert("version".to_owned(), json!("1.0.0"));
        }
        "firmware/upgrade" | "disconnect" => {}
        "state-check" => {
            reply.insert("state".to_owned(), json!(1));
        }
        "collector/read" => {
            let addresses = command.get("addresses").and_then(Value::as_array).cloned().unwrap_or_default();
            let data = addresses.into_iter().map(|address| json!({ "address": address, "value": 0 }));
            reply.insert("data".to_owned(), data.collect());
        }
        "collector/write" => {
            reply.insert("data".to_owned(), command.get("data").cloned().unwrap_or_else(|| json!([])));
        }
        _ => return Response::Nothing,
    }
    for field in ["messageId", "deviceId"] {
        reply.extend(command.get(field).map(|value| (field.to_owned(), value.clone())));
    }
    reply.insert("success".to_owned(), Value::Bool(true));
    Response::Reply { topic: format!("{topic}/reply"), body: Value::Object(reply).to_string().into_bytes() }
}

/// A value that depends on the name alone, so that two reads agree.
fn property(device: &str, name: &str) -> Value {
    match name {
        "sn" | "deviceId" => json!(device),
        "temperature" => json!(21.5),
        "online" => json!(true),
        _ => json!(name.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply_to(topic: &str, body: &str) -> (String, Value) {
        match respond("device1", topic, body.as_bytes()) {
            Response::Reply { topic, body } => (topic, serde_json::from_slice(&body).expect("a reply is JSON")),
            Response::Nothing => panic!("{topic} got no reply"),
        }
    }

    #[test]
    fn a_read_is_answered_with_a_value_for_each_name_and_the_message_id() {
        let (topic, body) =
            reply_to("/product1/device1/properties/read", r#"{"messageId":"7","properties":["sn","temperature"]}"#);
        assert_eq!(topic, "/product1/device1/properties/read/reply");
        let expected = json!({"messageId":"7","success":true,"properties":{"sn":"device1","temperature":21.5}});
        assert_eq!(body, expected);
    }

    #[test]
    fn a_write_is_answered_with_what_was_written() {
        let (_, body) = reply_to("/p/d/properties/write", r#"{"messageId":"7","properties":{"a":1}}"#);
        assert_eq!(body, json!({"messageId":"7","success":true,"properties":{"a":1}}));
    }

    #[test]
    fn an_invocation_is_answered_with_its_inputs() {
        let command = r#"{"messageId":"7","functionId":"f","inputs":[{"name":"a","value":1}]}"#;
        let (_, body) = reply_to("/p/d/function/invoke", command);
        assert_eq!(body, json!({"messageId":"7","success":true,"functionId":"f","output":{"a":1}}));
    }

    #[test]
    fn a_child_is_answered_for_below_its_own_topic() {
        let (topic, body) =
            reply_to("/product1/gw1/child/child1/properties/read", r#"{"deviceId":"child1","properties":[]}"#);
        assert_eq!(topic, "/product1/gw1/child/child1/properties/read/reply");
        assert_eq!(body["deviceId"], "child1");
    }

    #[test]
    fn what_has_no_reply_gets_none() {
        for topic in ["/p/d/direct", "/p/d/firmware/pull/reply", "/p/d/time-sync/reply", "/p/d", "/", ""] {
            assert_eq!(respond("d", topic, b"{}"), Response::Nothing, "{topic}");
        }
    }
}
