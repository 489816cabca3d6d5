//! The published documents: as the bridge prints them, and as their own tools read them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::foreign::{lines, own, published};
use crate::stage::produced;
use crate::support::{Folder, bridge, tool};

/// Every file below a folder, by its path there.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = entry.file_name().unwrap().to_string_lossy().into_owned();
        if entry.is_dir() {
            found.extend(files(&entry).into_iter().map(|(below, text)| (format!("{name}/{below}"), text)));
        } else {
            found.insert(name, fs::read_to_string(&entry).unwrap());
        }
    }
    found
}

fn printed(arguments: &[&str]) -> String {
    let finished = bridge::run(&[&["schema"], arguments].concat(), "");
    assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{arguments:?}");
    finished.stdout
}

#[test]
fn the_published_documents_are_those_that_the_bridge_writes() {
    let folder = Folder::new("documents");
    assert_eq!(printed(&["all", "--output", &folder.path().display().to_string()]), "");
    let (written, published) = (files(folder.path()), files(&published()));
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&written), names(&published), "run `make schemas`");
    for (name, text) in &written {
        assert_eq!(Some(text), published.get(name), "{name}: run `make schemas`");
    }
    for kind in ["envelope", "data", "command", "command-body", "outcome"] {
        for name in printed(&[kind]).lines() {
            assert_eq!(printed(&[kind, name]), written[&format!("{kind}/{name}.json")]);
        }
    }
    assert_eq!(printed(&["envelope", "org.jetlinks.device.event"]), written["envelope/event.json"]);
    assert_eq!(printed(&["asyncapi"]), written["asyncapi.json"]);
    assert_eq!(printed(&["openapi"]), written["openapi.json"]);
}

#[test]
fn a_type_that_is_never_written_has_no_schema() {
    for arguments in [["schema", "envelope", "properties.reports"], ["schema", "command", "EVENT"]] {
        let finished = bridge::run(&arguments, "");
        assert_eq!((finished.code, finished.stdout.as_str()), (2, ""), "{arguments:?}: {}", finished.stderr);
    }
}

#[test]
fn topics_and_subjects_are_those_of_the_configuration() {
    let set = ["--set", "kafka.uplink_topic=other.device", "--set", "nats.prefix=other"];
    let document: Value = serde_json::from_str(&printed(&[&["asyncapi"], &set[..]].concat())).unwrap();
    let address = |channel: &str| document["channels"][channel]["address"].as_str().unwrap().to_owned();
    assert_eq!(address("kafka.device"), "other.device");
    assert_eq!(address("nats.rejected"), "other.rejected.{productId}.{deviceId}");
}

fn asyncapi(file: &Path) -> Value {
    let mut node = Command::new(tool::system("node"));
    node.arg(own("node/asyncapi.mjs")).arg(tool::installed("node/node_modules")).arg(file);
    lines(&mut node, "").remove(0)
}

fn errors(seen: &Value) -> Vec<&Value> {
    seen["diagnostics"].as_array().unwrap().iter().filter(|diagnostic| diagnostic["severity"] == 0).collect()
}

#[test]
fn the_parser_of_asyncapi_has_no_complaint_and_every_type_is_on_a_channel_of_its_queue() {
    let seen = asyncapi(&published().join("asyncapi.json"));
    assert_eq!(errors(&seen), Vec::<&Value>::new());
    let mut listed: BTreeSet<String> = BTreeSet::new();
    for (channel, messages) in seen["channels"].as_object().unwrap() {
        let queue = channel.split('.').next().unwrap();
        listed.extend(
            messages.as_array().unwrap().iter().map(|message| format!("{queue} {}", message.as_str().unwrap())),
        );
    }
    for record in &produced().records {
        let end =
            if record.mode == "structured" { "structured".to_owned() } else { format!("{}-binary", record.queue) };
        let message = format!("{} {}.{end}", record.queue, record.end());
        assert!(listed.contains(&message), "{message}");
    }
}

#[test]
fn the_parser_of_asyncapi_finds_what_is_wrong() {
    let mut document: Value = serde_json::from_str(&printed(&["asyncapi"])).unwrap();
    document["operations"]["kafka.device"]["action"] = "publish".into();
    let folder = Folder::new("asyncapi");
    let file = folder.write("asyncapi.json", &document.to_string());
    assert!(!errors(&asyncapi(&file)).is_empty());
}

/// Whether a subject is one of the address, whose parameters stand for a token each, and those of types for several. A
/// child may have children.
fn is_of(address: &str, parameters: &Value, subject: &str) -> bool {
    let Some((start, rest)) = address.split_once('{') else { return address == subject };
    let (Some((name, rest)), Some(subject)) = (rest.split_once('}'), subject.strip_prefix(start)) else { return false };
    match parameters[name]["enum"].as_array() {
        Some(words) => words
            .iter()
            .filter_map(Value::as_str)
            .any(|word| subject.strip_prefix(word).is_some_and(|subject| is_of(rest, parameters, subject))),
        None => {
            let end = subject.find('.').unwrap_or(subject.len());
            let below = subject[end..].strip_prefix(".child.").filter(|_| name == "childId");
            let is_below = below.is_some_and(|below| is_of(&format!("{{childId}}{rest}"), parameters, below));
            end > 0 && (is_below || is_of(rest, parameters, &subject[end..]))
        }
    }
}

#[test]
fn every_subject_is_one_of_a_channel_and_every_key_is_the_id() {
    let document: Value = serde_json::from_str(&printed(&["asyncapi"])).unwrap();
    for record in &produced().records {
        let envelope = record.envelope();
        if record.queue == "kafka" {
            let key = envelope.get("deviceid").or(envelope.get("replicaid"));
            assert!(key.is_none_or(|key| *key == record.address.as_str()), "{record:?}");
        } else if record.address != "outcome" {
            let is_on = |channel: &&Value| {
                channel["address"]
                    .as_str()
                    .is_some_and(|address| is_of(address, &channel["parameters"], &record.address))
            };
            let message = record.end();
            let channel = document["channels"].as_object().unwrap().values().find(is_on);
            let listed = channel.unwrap_or_else(|| panic!("{}", record.address))["messages"].as_object().unwrap();
            assert!(listed.keys().any(|own| own.starts_with(&message)), "{}: {message}", record.address);
        }
    }
}
