//! The OpenAPI document: paths of the admin listener, a file each, joined here.

use serde_json::{Map, Value, json};

use super::{command, envelope};

/// Paths, and the schemas that they alone use: `{"paths":{…},"schemas":{…}}`.
const PATHS: &[&str] = &[
    include_str!("probes.json"),
    include_str!("metrics.json"),
    include_str!("sessions.json"),
    include_str!("shed.json"),
    include_str!("log.json"),
    include_str!("trace.json"),
    include_str!("envelopes.json"),
    include_str!("commands.json"),
    include_str!("overview.json"),
];

/// The document without what is joined: paths, their schemas, and the version of the program.
const DOCUMENT: &str = include_str!("document.json");

/// The document; `timeout_max_ms` is the longest time-out of a command.
pub(super) fn document(timeout_max_ms: u64) -> Value {
    // It and each part belong to this program, and a test reads them all.
    let mut document: Value = serde_json::from_str(DOCUMENT).unwrap_or_default();
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    schemas.insert("Command".to_owned(), command::any(timeout_max_ms));
    schemas.insert("Envelope".to_owned(), envelope::attributes().with("data", json!({ "type": "object" })).closed());
    for part in PATHS {
        let mut part: Value = serde_json::from_str(part).unwrap_or_default();
        for (name, own) in [("paths", &mut paths), ("schemas", &mut schemas)] {
            if let Some(Value::Object(more)) = part.get_mut(name).map(Value::take) {
                own.extend(more);
            }
        }
    }
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    document["paths"] = paths.into();
    document["components"]["schemas"] = schemas.into();
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_json_with_paths() {
        serde_json::from_str::<Value>(DOCUMENT).expect("the document is JSON");
        for part in PATHS {
            let part: Value = serde_json::from_str(part).expect("a part is JSON");
            assert!(part["paths"].as_object().is_some_and(|paths| !paths.is_empty()), "{part}");
        }
    }
}
