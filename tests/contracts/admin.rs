//! Answers of the admin API by the OpenAPI document.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::foreign::{lines, published, python};
use crate::support::{Bridge, Nats, Registry, Settings, Wire, http};

/// A request for each way of each path, and more for the answers that are no good news.
const REQUESTS: &[(&str, &str, &str, u16)] = &[
    ("GET", "/livez", "", 200),
    ("GET", "/readyz", "", 200),
    ("GET", "/metrics", "", 200),
    ("GET", "/api/sessions?limit=1&replicas=all", "", 200),
    ("GET", "/api/sessions?limit=0", "", 400),
    ("GET", "/api/sessions/device1", "", 200),
    ("GET", "/api/sessions/device9", "", 404),
    ("GET", "/api/sessions/%zz", "", 400),
    ("GET", "/api/shed?replicas=all", "", 200),
    ("GET", "/api/shed?limit=1", "", 400),
    ("POST", "/api/shed", r#"{"to":9}"#, 202),
    ("POST", "/api/shed", "{}", 400),
    ("DELETE", "/api/shed", "", 200),
    ("GET", "/api/log", "", 200),
    ("PUT", "/api/log", r#"{"level":"debug"}"#, 200),
    ("PUT", "/api/log", r#"{"level":"loud"}"#, 400),
    ("DELETE", "/api/sessions/device2", "", 204),
    ("DELETE", "/api/sessions/device9", "", 404),
];

struct Asked {
    method: &'static str,
    path: &'static str,
    answer: http::Answer,
}

fn ask() -> Vec<Asked> {
    let (nats, (registry, devices)) = (Nats::start(), Registry::numbered(2));
    let bridge = Bridge::start(&Settings::nats(&registry, &nats));
    let _connected: Vec<Wire> = devices.iter().map(|device| Wire::connect(bridge.mqtt(), device)).collect();
    let mut asked = Vec::new();
    for &(method, path, body, status) in REQUESTS {
        let answer = http::send(bridge.admin(), method, path, body).unwrap();
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        asked.push(Asked { method, path, answer });
    }
    asked
}

fn errors(asked: &[Asked], change: impl Fn(&Asked, &mut Value)) -> Vec<Value> {
    let line = |one: &Asked| {
        let Asked { method, path, answer } = one;
        let mut line = json!({ "method": method, "path": path, "status": answer.status, "type": answer.content_type, "body": answer.body });
        change(one, &mut line);
        line.to_string() + "\n"
    };
    lines(python("python/schemas.py").arg(published()).arg("--openapi"), &asked.iter().map(line).collect::<String>())
}

#[test]
fn real_answers_are_those_that_the_openapi_document_describes_and_a_wrong_one_is_found() {
    let asked = ask();
    for (one, error) in asked.iter().zip(errors(&asked, |_, _| {})) {
        assert_eq!(error, Value::Null, "{} {}: {}", one.method, one.path, one.answer.body);
    }
    let json_answers: Vec<bool> = asked.iter().map(|one| one.answer.content_type == "application/json").collect();
    let with_more = errors(&asked, |one, line| {
        if one.answer.content_type == "application/json" {
            line["body"] = one.answer.body.replacen('{', r#"{"more":1,"#, 1).into();
        }
    });
    for ((one, is_json), error) in asked.iter().zip(json_answers).zip(with_more) {
        assert_eq!(error.is_string(), is_json, "{} {}: {error}", one.method, one.path);
    }
}

#[test]
fn every_way_of_every_path_of_the_document_is_asked() {
    let document: Value = serde_json::from_str(&fs::read_to_string(published().join("openapi.json")).unwrap()).unwrap();
    let mut described = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let methods = operations.as_object().unwrap().keys().filter(|name| *name != "parameters");
        described.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
    }
    let template = |path: &str| {
        let path = path.split('?').next().unwrap_or(path);
        if path.starts_with("/api/sessions/") { "/api/sessions/{device}".to_owned() } else { path.to_owned() }
    };
    let asked: BTreeSet<String> =
        REQUESTS.iter().map(|(method, path, _, _)| format!("{method} {}", template(path))).collect();
    assert_eq!(asked, described);
}
