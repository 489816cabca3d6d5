//! Answers of the admin API by the OpenAPI document.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::foreign::{lines, published, python};
use crate::support::{Bridge, Nats, Registry, Settings, Wire, http, wire};

/// A command that no device of these tests answers.
const READ: &str =
    r#"{"messageType":"READ_PROPERTY","productId":"product1","deviceId":"device1","headers":{"timeout":1}}"#;

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
    ("GET", "/api/trace?device=device1&for=1s", "", 200),
    ("GET", "/api/trace?for=1s", "", 400),
    ("GET", "/api/envelopes?colour=red", "", 400),
    ("POST", "/api/commands", READ, 200),
    ("POST", "/api/commands", "{}", 400),
    ("GET", "/api/overview", "", 200),
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
    let bridge = Bridge::start(&Settings::nats(&registry, &nats).text("presence.heartbeat", "1s"));
    let _connected: Vec<Wire> = devices.iter().map(|device| Wire::connect(bridge.mqtt(), device)).collect();
    let mut asked = Vec::new();
    for &(method, path, body, status) in REQUESTS {
        let answer = http::send(bridge.admin(), method, path, body).unwrap();
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        asked.push(Asked { method, path, answer });
    }
    let path = "/api/envelopes?type=replica";
    asked.push(Asked { method: "GET", path, answer: first_lines(bridge.admin(), path, 2) });
    asked
}

/// The first lines of an answer that goes on.
fn first_lines(admin: SocketAddr, path: &str, count: usize) -> http::Answer {
    let mut stream = wire::dial(admin);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {admin}\r\n\r\n").unwrap();
    let (mut body, mut content_type) = (String::new(), String::new());
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        // Sizes of chunks stand between the lines.
        if line.starts_with('{') {
            body.push_str(&(line + "\n"));
        } else if let Some((_, value)) =
            line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        {
            value.trim().clone_into(&mut content_type);
        }
        if body.lines().count() == count {
            break;
        }
    }
    http::Answer { status: 200, content_type, body }
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
