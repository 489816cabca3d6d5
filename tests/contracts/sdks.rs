//! CloudEvents SDKs of other languages read every record, and see in it what the envelope says.

use std::process::Command;

use serde_json::{Value, json};

use crate::foreign::{lines, own, python, run};
use crate::stage::{Record, produced};
use crate::support::{Folder, tool};

fn java() -> Command {
    let mut command = Command::new(tool::system("java"));
    command.args(["-XX:TieredStopAtLevel=1", "-cp"]).arg(tool::installed("cloudevents/libs").join("*"));
    command.arg(own("java/Accept.java"));
    command
}

fn go() -> Command {
    Command::new(tool::installed("bin/cloudevents-accept"))
}

fn file(folder: &Folder, records: &[Record]) -> std::path::PathBuf {
    let line = |record: &Record| {
        json!({ "queue": record.queue, "headers": record.headers, "value": record.value }).to_string() + "\n"
    };
    folder.write("records.jsonl", &records.iter().map(line).collect::<String>())
}

/// A time as text, whatever form an SDK gives it: ms since 1970.
fn same_time(seen: &str, expected: &str) -> bool {
    let instant = |text: &str| {
        let text = text.trim_end_matches("+00:00").trim_end_matches('Z');
        let (day, fraction) = text.split_once('.').unwrap_or((text, ""));
        (if day.len() == 16 { format!("{day}:00") } else { day.to_owned() }, fraction.trim_end_matches('0').to_owned())
    };
    instant(seen) == instant(expected)
}

/// Every record is read, and its attributes and its data are those of the envelope.
fn assert_accepts(mut sdk: Command, decodes_nats: bool) {
    let folder = Folder::new("sdk");
    let records = &produced().records;
    let seen = lines(sdk.arg(file(&folder, records)), "");
    assert_eq!(seen.len(), records.len());
    for (record, seen) in records.iter().zip(seen) {
        let mut envelope = record.envelope();
        let data = envelope.as_object_mut().unwrap().remove("data").unwrap();
        assert_eq!(comparable(&seen["data"]), comparable(&data), "{record:?}");
        let attributes = seen["attributes"].as_object().unwrap();
        let names: Vec<_> = attributes.keys().collect();
        assert_eq!(names, envelope.as_object().unwrap().keys().collect::<Vec<_>>(), "{record:?}");
        for (name, value) in attributes {
            let (seen, expected) = (value.as_str().unwrap(), envelope[name].as_str().unwrap());
            if matches!(name.as_str(), "time" | "recordedtime") {
                assert!(same_time(seen, expected), "{name}: {seen} {expected}");
            } else if record.queue == "nats" && record.mode == "binary" && !decodes_nats {
                let decoded = percent_encoding::percent_decode_str(seen).decode_utf8_lossy();
                assert_eq!(decoded, expected, "{name}");
            } else {
                assert_eq!(seen, expected, "{name}");
            }
        }
    }
}

/// Numbers as the SDK's language has them.
fn comparable(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64().unwrap().to_string()),
        Value::Array(list) => list.iter().map(comparable).collect(),
        Value::Object(members) => members.iter().map(|(name, member)| (name.clone(), comparable(member))).collect(),
        other => other.clone(),
    }
}

#[test]
fn the_sdk_for_python_accepts_records_of_every_type() {
    assert_accepts(python("python/accept.py"), true);
}

#[test]
fn the_sdk_for_java_accepts_records_of_every_type() {
    assert_accepts(java(), false);
}

#[test]
fn the_sdk_for_go_accepts_records_of_every_type() {
    assert_accepts(go(), false);
}

#[test]
fn no_sdk_accepts_a_record_without_its_source() {
    for mode in ["structured", "binary"] {
        for queue in ["kafka", "nats"] {
            let is_meant = |record: &&Record| record.mode == mode && record.queue == queue;
            let mut record = produced().records.iter().find(is_meant).unwrap().clone();
            record.headers.retain(|name, _| !matches!(name.as_str(), "ce_source" | "ce-source"));
            record.value = record.value.replacen(r#""source":"#, r#""xsource":"#, 1);
            let folder = Folder::new("sdk");
            let file = file(&folder, &[record]);
            for mut sdk in [python("python/accept.py"), java(), go()] {
                let (is_accepted, _, output) = run(sdk.arg(&file), "");
                assert!(!is_accepted, "{queue} {mode}: {sdk:?}: {output}");
            }
        }
    }
}
