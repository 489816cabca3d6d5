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

const DESCRIPTION: &str = "The admin listener of jetlinks-bridge. With admin.token set every path below /api needs it as a bearer \
    token; without one /api is answered on loopback alone, to requests whose Host is localhost or a loopback address and that \
    come from no other site.";

/// The document; `timeout_max_ms` is the longest time-out of a command.
pub(super) fn document(timeout_max_ms: u64) -> Value {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    schemas.insert("Command".to_owned(), command::any(timeout_max_ms));
    schemas.insert("Envelope".to_owned(), envelope::attributes().with("data", json!({ "type": "object" })).closed());
    for part in PATHS {
        // Each is a part of this program, and a test reads them all.
        let mut part: Value = serde_json::from_str(part).unwrap_or_default();
        for (name, own) in [("paths", &mut paths), ("schemas", &mut schemas)] {
            if let Some(Value::Object(more)) = part.get_mut(name).map(Value::take) {
                own.extend(more);
            }
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "jetlinks-bridge admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "http://127.0.0.1:9090", "description": "admin.listen, as it is without configuration" }],
        "security": [{}, { "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                "Forbidden": answer("The token is missing or wrong, or the request is of another site"),
                "BadRequest": answer("The request cannot be read; the error says why"),
                "NotFound": answer("There is nothing of that name"),
                "TooLarge": answer("The body is too large"),
                "Conflict": answer("Replicas do not hear each other, as nats.servers is not set, or commands.queue is none"),
                "Unavailable": answer("Too many requests wait, or the replica is ending"),
            },
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer", "description": "admin.token" } },
        },
    })
}

/// An answer that is an error.
fn answer(description: &str) -> Value {
    let schema = json!({ "$ref": "#/components/schemas/Error" });
    json!({ "description": description, "content": { "application/json": { "schema": schema } } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_json_with_paths() {
        for part in PATHS {
            let part: Value = serde_json::from_str(part).expect("a part is JSON");
            assert!(part["paths"].as_object().is_some_and(|paths| !paths.is_empty()), "{part}");
        }
    }
}
