//! The page, the parts of `/api` that it alone needs, and HEAD of every path.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::tests::{Operator, Two};
use super::*;
use crate::telemetry::health::PartState;

/// Answers with the command, or as it says.
impl Commands for Two {
    fn send(&self, command: hyper::body::Bytes) -> Result<SentCommand, CommandRefusal> {
        let text = String::from_utf8(command.to_vec()).unwrap();
        match text.as_str() {
            "{}" => return Err(CommandRefusal::Invalid("productId is missing".to_owned())),
            "none" => return Err(CommandRefusal::NoCommands),
            "busy" => return Err(CommandRefusal::Busy),
            _ => {}
        }
        let outcome = async move {
            match text.as_str() {
                "offline" => Err(CommandRefusal::Offline("no replica has a session of device9".to_owned())),
                "silent" => Err(CommandRefusal::Unanswered("no outcome in time".to_owned())),
                _ => Ok(text),
            }
        };
        Ok(SentCommand { longest: Duration::from_secs(1), outcome: Box::pin(outcome) })
    }
}

#[tokio::test]
async fn a_command_is_answered_with_its_outcome_or_the_reason_why_there_is_none() {
    let operator = Operator::on(Ipv4Addr::UNSPECIFIED, Some("hush")).await;
    assert_eq!(operator.give("POST", "/api/commands", "", "outcome").await.0, "403");
    let long = "x".repeat(65 * 1024);
    for (body, status, answer) in [
        ("outcome", "200", "outcome"),
        ("{}", "400", r#"{"error":"productId is missing"}"#),
        ("offline", "404", r#"{"error":"no replica has a session of device9"}"#),
        ("none", "409", r#"{"error":"commands.queue is \"none\": this bridge gives devices no commands"}"#),
        (&long, "413", r#"{"error":"the body has more than 65536 bytes, or did not arrive"}"#),
        ("busy", "503", r#"{"error":"too many commands wait for their outcome"}"#),
        ("silent", "504", r#"{"error":"no outcome in time"}"#),
    ] {
        let given = operator.give("POST", "/api/commands", "Authorization: Bearer hush\r\n", body).await;
        assert_eq!((given.0.as_str(), given.1.as_str()), (status, answer));
    }
    assert_eq!(operator.status("GET /api/commands", "Authorization: Bearer hush\r\n").await, "405");
}

#[tokio::test]
async fn the_overview_tells_of_every_part_and_whether_pages_may_change_something() {
    let operator = Operator::on(Ipv4Addr::LOCALHOST, None).await;
    operator.health.queue.set(0, PartState::Ok);
    operator.health.turned(0);
    let (_, body) = operator.ask("GET /api/overview", "").await;
    let mut overview: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert!(overview["workers"][0]["turnedAgo"].take().is_u64(), "{body}");
    let expected = serde_json::json!({
        "replicaId": "replica1",
        "version": env!("CARGO_PKG_VERSION"),
        "access": { "token": false },
        "state": { "ready": false, "draining": false, "capacity": "off" },
        "queues": [
            { "role": "messages", "kind": "kafka", "where": "kafka-1:9092", "state": "ok" },
            { "role": "commands", "kind": "none", "where": "", "state": "off" },
        ],
        "registry": { "role": "registry", "kind": "file", "where": "devices.toml", "state": "starting" },
        "coordination": "off",
        "certificates": [],
        "workers": [{ "worker": 0, "sessions": 0, "turnedAgo": null }],
        "replicas": [{ "replicaId": "replica1", "answered": true, "sessions": 9, "shed": "running" }],
    });
    assert_eq!(overview, expected);
    let open = Operator::on(Ipv4Addr::LOCALHOST, Some("hush")).await;
    let (_, body) = open.ask("GET /api/overview", "Authorization: Bearer hush\r\n").await;
    assert!(body.contains(r#""access":{"token":true}"#), "{body}");
}

#[tokio::test]
async fn everybody_who_reaches_the_listener_gets_the_page_and_no_other_page_may_show_it() {
    let operator = Operator::on(Ipv4Addr::UNSPECIFIED, Some("hush")).await;
    let answer = operator.send("GET / HTTP/1.1\r\nHost: anything\r\n\r\n").await;
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && page.contains("/console/app.js"), "{head}");
    for header in [
        "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
         img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "x-content-type-options: nosniff",
        "x-frame-options: DENY",
        "referrer-policy: no-referrer",
        "cross-origin-opener-policy: same-origin",
        "cross-origin-resource-policy: same-origin",
        "cache-control: no-cache",
    ] {
        assert!(head.contains(header), "{header} is missing: {head}");
    }
    assert!(!head.to_lowercase().contains("access-control-allow"), "{head}");
    assert_eq!(operator.status("POST /", "").await, "405");
}

#[tokio::test]
async fn a_head_has_the_status_of_its_get_and_no_body() {
    let operator = Operator::on(Ipv4Addr::LOCALHOST, None).await;
    for (path, status) in [
        ("/livez", "200"),
        ("/readyz", "503"),
        ("/metrics", "200"),
        ("/api/sessions", "200"),
        ("/api/sessions/device1", "200"),
        ("/api/sessions/device9", "404"),
        ("/api/log", "200"),
        ("/api/overview", "200"),
        ("/", "200"),
        ("/console/app.js", "200"),
        ("/console/", "404"),
        ("/livez/", "404"),
        ("/api", "404"),
        ("/nothing", "404"),
    ] {
        let (head, body) = operator.ask(&format!("HEAD {path}"), "").await;
        assert_eq!((head.split(' ').nth(1), body.as_str()), (Some(status), ""), "{path}");
        assert_eq!(operator.status(&format!("GET {path}"), "").await, status, "{path}");
    }
}
