//! What is written and read, by the published schemas and `jsonschema`.

use std::collections::{BTreeMap, BTreeSet};

use jetlinks_bridge::protocol::envelope::EnvelopeType;
use jetlinks_bridge::protocol::topic::MessageType;
use serde_json::{Value, json};

use crate::foreign::{lines, published, python};
use crate::stage::{Record, produced};

/// What is wrong with each instance by its schema; `None`: nothing.
fn errors(instances: &[(String, Value)]) -> Vec<Option<String>> {
    let lines_of = |(schema, instance): &(String, Value)| json!({ "schema": schema, "instance": instance }).to_string();
    let input: Vec<String> = instances.iter().map(lines_of).collect();
    let file = crate::support::Folder::new("schemas");
    let path = file.write("records.jsonl", &input.join("\n"));
    let found = lines(python("python/schemas.py").arg(published()).arg(path), "");
    assert_eq!(found.len(), instances.len());
    found.into_iter().map(|error| error.as_str().map(str::to_owned)).collect()
}

fn assert_valid(instances: &[(String, Value)]) {
    for ((schema, instance), error) in instances.iter().zip(errors(instances)) {
        assert_eq!(error, None, "{schema}: {instance}");
    }
}

/// The records as whole envelopes, and those in binary mode by their data as well.
fn instances(records: &[Record]) -> Vec<(String, Value)> {
    let mut instances = Vec::new();
    for record in records {
        instances.push((format!("envelope/{}", record.end()), record.envelope()));
        if record.mode == "binary" {
            instances.push((format!("data/{}", record.end()), record.envelope()["data"].take()));
        }
    }
    instances
}

fn ends() -> BTreeSet<String> {
    EnvelopeType::all().map(|own| own.end().to_owned()).collect()
}

fn schemas_of(kind: &str) -> BTreeSet<String> {
    let files = std::fs::read_dir(published().join(kind)).unwrap();
    files.map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn every_type_of_the_code_has_its_schemas_and_is_seen_on_both_queues_in_both_modes() {
    assert_eq!(schemas_of("envelope"), ends());
    assert_eq!(schemas_of("data"), ends());
    let commands = MessageType::all().filter(|own| own.goes_down()).map(|own| own.name().to_owned());
    let commands: BTreeSet<String> = commands.collect();
    assert_eq!(schemas_of("command"), commands);
    assert_eq!(schemas_of("outcome"), commands);
    let mut seen: BTreeMap<(&str, &str), BTreeSet<String>> = BTreeMap::new();
    for record in &produced().records {
        seen.entry((record.queue, record.mode)).or_default().insert(record.end());
    }
    assert_eq!(seen.len(), 4);
    for (run, types) in seen {
        assert_eq!(types, ends(), "{run:?}");
    }
}

#[test]
fn whatever_the_bridge_writes_is_valid_by_the_schemas_of_its_type() {
    assert_valid(&instances(&produced().records));
}

#[test]
fn envelopes_of_the_golden_file_are_valid() {
    let golden =
        include_str!("../golden/envelopes.jsonl").lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let schema = |envelope: &Value| envelope["type"].as_str().unwrap().splitn(4, '.').nth(3).unwrap().to_owned();
    assert_valid(&golden.map(|envelope| (format!("envelope/{}", schema(&envelope)), envelope)).collect::<Vec<_>>());
}

#[test]
fn commands_that_are_carried_out_are_valid_and_so_are_their_outcomes() {
    let mut instances = Vec::new();
    for command in &produced().commands {
        let name = command["messageType"].as_str().unwrap();
        instances.push((format!("command/{name}"), command.clone()));
        if name != "DIRECT" {
            instances.push((format!("command-body/{name}"), command.clone()));
        }
    }
    assert!(instances.len() > 40, "{}", instances.len());
    for record in &produced().records {
        let envelope = record.envelope();
        let Some(own) = MessageType::from_dotted(&record.end()).and_then(MessageType::answers) else { continue };
        if !envelope["correlationid"].is_null() {
            instances.push((format!("outcome/{}", own.name()), envelope));
        }
    }
    assert_valid(&instances);
}

/// Paths of the members of closed objects: each was seen, or the schema promises what is not there.
fn closed_members(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    for form in ["oneOf", "anyOf"].iter().filter_map(|word| schema[word].as_array()).flatten() {
        closed_members(form, path, found);
    }
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if schema["additionalProperties"] == false {
            found.insert(path.clone());
        }
        closed_members(member, &path, found);
    }
}

fn members(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (name, member) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        members(member, &path, found);
        found.insert(path);
    }
}

#[test]
fn every_member_that_a_schema_closes_upon_is_written_by_the_bridge() {
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for record in &produced().records {
        members(&record.envelope(), "", seen.entry(record.end()).or_default());
    }
    for end in ends() {
        let schema = std::fs::read_to_string(published().join(format!("envelope/{end}.json"))).unwrap();
        let mut promised = BTreeSet::new();
        closed_members(&serde_json::from_str(&schema).unwrap(), "", &mut promised);
        // Only with tracing on.
        promised.remove(".traceparent");
        let missing: Vec<_> = promised.difference(&seen[&end]).collect();
        assert!(missing.is_empty(), "{end}: {missing:?} was never seen");
    }
}

#[test]
fn a_wrong_member_of_any_type_is_found() {
    let mut wrong = Vec::new();
    let mut known = BTreeSet::new();
    for record in produced().records.iter().filter(|record| record.mode == "structured") {
        let (schema, envelope) = (format!("envelope/{}", record.end()), record.envelope());
        if !known.insert((record.end(), envelope["origin"].to_string())) {
            continue;
        }
        for name in envelope.as_object().unwrap().keys() {
            let is_optional = ["gatewayid", "sessionid", "correlationid", "traceparent"].contains(&name.as_str());
            // Presence without its session would be none.
            if !is_optional || !envelope["replicaid"].is_null() && name == "sessionid" {
                let mut without = envelope.clone();
                without.as_object_mut().unwrap().remove(name);
                wrong.push((schema.clone(), without));
            }
            let mut other = envelope.clone();
            other[name] = json!(7);
            wrong.push((schema.clone(), other));
        }
        for name in ["extra", "deviceId", "Data"] {
            let mut more = envelope.clone();
            more[name] = json!("x");
            wrong.push((schema.clone(), more));
        }
        let mut no_type = envelope.clone();
        no_type["data"] = json!({});
        wrong.push((schema, no_type));
    }
    assert!(known.len() > 26, "{known:?}");
    for ((schema, instance), error) in wrong.iter().zip(errors(&wrong)) {
        assert!(error.is_some(), "{schema} takes {instance}");
    }
}

#[test]
fn a_field_of_another_type_is_found() {
    let of = |end: &str| {
        let is_meant = |record: &&Record| record.end() == end && record.envelope()["origin"] == "device";
        produced().records.iter().find(is_meant).unwrap().envelope()
    };
    let mut wrong = Vec::new();
    for (end, name, value) in [
        ("properties.report", "properties", json!([])),
        ("properties.report", "propertySourceTimes", json!({ "temp": "soon" })),
        ("properties.report", "propertyStates", json!({ "temp": 1 })),
        ("firmware.upgrade.progress", "progress", json!("50")),
        ("firmware.upgrade.progress", "success", json!("true")),
        ("event", "data", Value::Null),
        ("collector.report", "data", json!({})),
        ("state-check.reply", "state", json!(1.5)),
        ("log", "log", json!(1)),
        ("direct", "payload", json!("no base64!")),
        ("direct", "more", json!(1)),
        ("tags", "timestamp", json!("1601196762389")),
        ("tags", "messageType", json!("LOG")),
    ] {
        let mut envelope = of(end);
        envelope["data"][name] = value;
        wrong.push((format!("envelope/{end}"), envelope));
    }
    for ((schema, instance), error) in wrong.iter().zip(errors(&wrong)) {
        assert!(error.is_some(), "{schema} takes {instance}");
    }
}
