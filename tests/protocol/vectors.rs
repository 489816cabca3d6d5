//! Every row of `golden/vectors.jsonl`, both directions.

use jetlinks_bridge::protocol::command::{Command, CommandError};
use jetlinks_bridge::protocol::topic::MessageType;
use serde_json::{Value, json};

use crate::support::{NOW_MS, Nobody, explainer, parsed};

const VECTORS: &str = include_str!("../golden/vectors.jsonl");

fn rows(direction: &str) -> Vec<Value> {
    let rows: Vec<Value> = VECTORS.lines().map(|line| parsed(line.as_bytes())).collect();
    rows.into_iter().filter(|row| row["dir"] == direction).collect()
}

/// Puts the time of receipt in the place of its mark.
fn with_now(mut data: Value) -> Value {
    if data["timestamp"] == "<NOW>" {
        data["timestamp"] = json!(NOW_MS);
    }
    data
}

#[test]
fn every_message_of_the_table_becomes_what_the_table_says() {
    let rows = rows("up");
    assert!(rows.len() > 100);
    for row in rows {
        let topic = row["topic"].as_str().expect("a topic");
        let payload = row["payload"].as_str().expect("a payload");
        let said = parsed(explainer().message(topic, payload.as_bytes(), None, &Nobody).json().as_bytes());
        let envelope = &said["envelope"];
        if row["foreign"] == true {
            assert_eq!(said["foreign"], true, "{row}");
            assert!(envelope.is_null() && said["rejected"].is_null() && said["nats"].is_null(), "{row}");
            continue;
        }
        assert_eq!(said["foreign"], false, "{row}");
        if let Some(answer) = row.get("answer") {
            assert_eq!(said["answer"], with_now(answer.clone()), "{row}");
            assert!(envelope.is_null() && said["kafka"].is_null(), "{row}");
            continue;
        }
        let segments: Vec<&str> = topic.trim_start_matches('/').split('/').collect();
        let own = format!("/{}/{}", segments[0], segments[1]);
        assert_eq!(envelope["specversion"], "1.0");
        if let Some(reason) = row.get("rejected") {
            assert_eq!(said["rejected"]["reason"], *reason, "{row}");
            assert_eq!(envelope["type"], "org.jetlinks.bridge.rejected", "{row}");
            assert_eq!(envelope["origin"], "bridge", "{row}");
            assert_eq!(envelope["source"], own.as_str(), "{row}");
            assert_eq!(envelope["data"]["topic"], topic, "{row}");
            assert_eq!(envelope["data"]["reason"], *reason, "{row}");
            assert_eq!(said["nats"]["subject"], format!("jetlinks.rejected.{}.{}", segments[0], segments[1]), "{row}");
            assert_eq!(said["kafka"], json!({"topic": "jetlinks.rejected", "key": segments[1]}), "{row}");
            continue;
        }
        assert!(said["rejected"].is_null(), "{row} {said}");
        assert_eq!(envelope["data"], with_now(row["data"].clone()), "{row}");
        assert_eq!(envelope["deviceid"], row["deviceid"], "{row}");
        assert_eq!(envelope.get("gatewayid"), row.get("gatewayid"), "{row}");
        assert_eq!(envelope["type"], row["type"], "{row}");
        assert_eq!(envelope["origin"], "device", "{row}");
        assert_eq!(envelope["productid"], segments[0], "{row}");
        assert_eq!(envelope.get("subject"), row["data"].get("event"), "{row}");
        assert_eq!(said["kafka"], json!({"topic": "jetlinks.device", "key": row["deviceid"]}), "{row}");
        let name = row["data"]["messageType"].as_str().and_then(MessageType::from_name).expect("a message type");
        let children = match row.get("gatewayid") {
            Some(_) => topic.replace("child-reply", "child"),
            None => own.clone(),
        };
        let children = children.split('/').skip(3).take_while(|_| row.get("gatewayid").is_some());
        let below: Vec<&str> = children.collect();
        let depth = below.chunks(2).take_while(|pair| pair[0] == "child").count() * 2;
        let place: Vec<&str> = segments[..2].iter().chain(&below[..depth]).copied().collect();
        assert_eq!(envelope["source"], format!("/{}", place.join("/")), "{row}");
        let mut subject = format!("jetlinks.device.{}.{}", place.join("."), name.dotted());
        if let Some(event) = row["data"]["event"].as_str() {
            subject = format!("{subject}.{}", event.replace('%', "%25"));
        }
        assert_eq!(said["nats"]["subject"], subject, "{row}");
    }
}

#[test]
fn every_command_of_the_table_becomes_what_the_table_says() {
    let rows = rows("down");
    assert!(rows.len() > 15);
    for row in rows {
        let json = row["command"].to_string();
        let said = parsed(explainer().command(json.as_bytes()).json().as_bytes());
        assert_eq!(said["unsupported"], row.get("unsupported").is_some(), "{row}");
        assert_eq!(said["closes"], row.get("closes").is_some(), "{row}");
        assert_eq!(said["topic"], *row.get("topic").unwrap_or(&Value::Null), "{row}");
        assert_eq!(said["body"], *row.get("body").unwrap_or(&Value::Null), "{row}");
        match Command::from_json(json.as_bytes()) {
            Err(CommandError::Unsupported(identity, _)) => {
                assert_eq!(row["unsupported"], true, "{row}");
                assert_eq!(identity.message_id.as_deref(), row["command"]["messageId"].as_str());
            }
            Err(error) => panic!("{row} {error:?}"),
            Ok(command) => assert_eq!(command.about(), row["command"]["deviceId"], "{row}"),
        }
    }
}

#[test]
fn a_command_by_subject_becomes_the_same_packet_as_by_json() {
    for row in rows("down").iter().filter(|row| row.get("body").is_some()) {
        let command = row["command"].as_object().expect("an object");
        let text = |name: &str| command.get(name).and_then(Value::as_str);
        let message_type = text("messageType").and_then(MessageType::from_name).expect("a message type");
        let device = text("deviceId").expect("a device");
        let place = match text("gatewayId") {
            Some(gateway) => format!("{gateway}.child.{device}"),
            None => device.to_owned(),
        };
        let mut rest = command.clone();
        for address in ["productId", "gatewayId", "deviceId", "messageType"] {
            rest.remove(address);
        }
        let subject = format!("p.{place}.{}", message_type.dotted());
        let by_subject = Command::from_subject(&subject, Value::Object(rest).to_string().as_bytes());
        let by_json = Command::from_json(row["command"].to_string().as_bytes());
        assert_eq!(by_subject, by_json, "{row}");
    }
}
