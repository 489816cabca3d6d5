//! Operators, over real connections.
#![expect(clippy::disallowed_methods, reason = "tests own the clock")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::*;
use crate::protocol::secret::Secret;
use crate::replica::request::Selection;
use crate::telemetry::follow::Line;
use crate::telemetry::health::{Health, PartState};
use crate::telemetry::log::LogControl;
use crate::telemetry::metric::Metrics;

/// Sessions of device1 and `a b`, who was kicked, and which sheds were asked for.
#[derive(Debug, Default)]
pub(super) struct Two {
    kicked: Mutex<Vec<String>>,
    sheds: Mutex<Vec<String>>,
    follows: Mutex<Vec<FollowOrder>>,
}

fn session(device: &str) -> SessionInfo {
    SessionInfo {
        device_id: device.to_owned(),
        product_id: "product1".to_owned(),
        session_id: "01JDA0Z6W3".to_owned(),
        transport: "mqtt",
        peer: "127.0.0.1:4000".to_owned(),
        connected_at: 1_700_000_000_000,
        replica_id: "replica1".to_owned(),
        worker: 0,
    }
}

const DEVICES: [&str; 2] = ["a b", "device1"];

impl Sessions for Two {
    fn list(&self, query: SessionQuery) -> Waiting<'_, Option<Page>> {
        let SessionQuery { replicas, offset, selection: Selection { limit, .. } } = query;
        let page = Page {
            total: DEVICES.len(),
            offset,
            limit,
            next: None,
            sessions: DEVICES.iter().skip(offset).take(limit).map(|device| session(device)).collect(),
            replicas: vec![ReplicaTotal { replica_id: "replica1".to_owned(), total: DEVICES.len() }],
            missing: vec!["replica2".to_owned()],
            coordination: "ok",
        };
        // A named replica stands for one that makes too many requests.
        let is_busy = matches!(replicas, Replicas::Named(_));
        Box::pin(async move { (!is_busy).then_some(page) })
    }

    fn find<'a>(&'a self, device: &'a str) -> Waiting<'a, Option<SessionInfo>> {
        Box::pin(async move { DEVICES.contains(&device).then(|| session(device)) })
    }

    fn kick<'a>(&'a self, device: &'a str, replicas: Replicas) -> Waiting<'a, Option<bool>> {
        Box::pin(async move {
            self.kicked.lock().unwrap().push(match replicas {
                Replicas::This => device.to_owned(),
                Replicas::All => format!("{device} anywhere"),
                Replicas::Named(names) => format!("{device} on {names:?}"),
            });
            (device != "busy").then(|| DEVICES.contains(&device))
        })
    }
}

impl Two {
    fn note(&self, call: String) -> Waiting<'_, Result<ShedReport, ShedRefusal>> {
        let is_alone = call.contains("Named");
        self.sheds.lock().unwrap().push(call);
        let shed = ReplicaShed {
            replica_id: "replica1".to_owned(),
            sessions: 9,
            state: "running",
            to: Some(7),
            rate: 5,
            ended: 1,
            left: 2,
        };
        let report = ShedReport { replicas: vec![shed], missing: Vec::new() };
        Box::pin(async move { if is_alone { Err(ShedRefusal::Alone) } else { Ok(report) } })
    }
}

impl Sheds for Two {
    fn begin(&self, order: ShedOrder) -> Waiting<'_, Result<ShedReport, ShedRefusal>> {
        self.note(format!("begin {:?} {} {:?}", order.aim, order.rate, order.replicas))
    }

    fn report(&self, replicas: Replicas) -> Waiting<'_, Result<ShedReport, ShedRefusal>> {
        self.note(format!("report {replicas:?}"))
    }

    fn stop(&self, replicas: Replicas) -> Waiting<'_, Result<ShedReport, ShedRefusal>> {
        self.note(format!("stop {replicas:?}"))
    }
}

impl Follows for Two {
    fn follow(&self, order: FollowOrder) -> Waiting<'_, Result<LineStream, TooMany>> {
        self.follows.lock().unwrap().push(order);
        let lines = [Line::Text(Bytes::from_static(b"{\"event\":\"following\"}")), Line::Dropped(7)];
        let lines = stream::iter(lines).chain(stream::pending());
        Box::pin(async move { Ok(Box::pin(lines) as LineStream) })
    }
}

pub(super) struct Operator {
    address: SocketAddr,
    pub(super) health: Arc<Health>,
    sessions: Arc<Two>,
    /// Levels that were put in force.
    levels: Arc<Mutex<Vec<String>>>,
}

impl Operator {
    /// Starts a listener on this address.
    pub(super) async fn on(address: Ipv4Addr, token: Option<&str>) -> Self {
        Self::of(Health::new(1), address, token).await
    }

    async fn of(health: Health, address: Ipv4Addr, token: Option<&str>) -> Self {
        let listener = TcpListener::bind(SocketAddr::from((address, 0))).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let health = Arc::new(health);
        let sessions = Arc::new(Two::default());
        let levels = Arc::new(Mutex::new(Vec::new()));
        let applied = Arc::clone(&levels);
        let apply = move |level: &str| {
            applied.lock().unwrap().push(level.to_owned());
            Ok(())
        };
        let admin = Admin {
            log: LogControl::new("info", |level| level != "none", apply),
            health: Arc::clone(&health),
            metrics: Arc::new(Metrics::new(Arc::clone(&health), 0)),
            sessions: Arc::clone(&sessions) as Arc<dyn Sessions>,
            sheds: Arc::clone(&sessions) as Arc<dyn Sheds>,
            follows: Arc::clone(&sessions) as Arc<dyn Follows>,
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            commands: Arc::clone(&sessions) as Arc<dyn Commands>,
            deployment: Deployment {
                replica_id: "replica1".to_owned(),
                messages: Place { kind: "kafka", place: "kafka-1:9092".to_owned() },
                commands: Place { kind: "none", place: String::new() },
                registry: Place { kind: "file", place: "devices.toml".to_owned() },
            },
            token: token.map(Secret::new),
        };
        tokio::spawn(serve(listener, admin));
        Self { address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), health, sessions, levels }
    }

    /// Sends a request; status line and body of the answer.
    pub(super) async fn ask(&self, request: &str, headers: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!("{request} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    /// Sends a whole request; the whole answer.
    pub(super) async fn send(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn put(&self, path: &str, headers: &str, body: &str) -> (String, String) {
        self.give("PUT", path, headers, body).await
    }

    /// Sends a body; status and the answer's body.
    pub(super) async fn give(&self, method: &str, path: &str, headers: &str, body: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
    }

    pub(super) async fn status(&self, request: &str, headers: &str) -> String {
        self.ask(request, headers).await.0.split(' ').nth(1).unwrap().to_owned()
    }
}

#[tokio::test]
async fn readyz_is_503_until_everything_was_reached_and_again_while_draining() {
    let operator = Operator::on(Ipv4Addr::LOCALHOST, None).await;
    let (status, body) = operator.ask("GET /readyz", "").await;
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    let expected = serde_json::json!({
        "ready": false, "draining": false, "queue": "starting", "registry": "starting", "coordination": "off",
        "commands": "off", "capacity": "off",
    });
    assert_eq!(serde_json::from_str::<serde_json::Value>(&body).unwrap(), expected);
    operator.health.set_listening();
    operator.health.queue.set(0, PartState::Ok);
    operator.health.registry.set(0, PartState::Ok);
    assert_eq!(operator.status("GET /readyz", "").await, "200");
    operator.health.queue.set(0, PartState::Away);
    let (status, body) = operator.ask("GET /readyz", "").await;
    assert!(status.contains("200") && body.contains("\"queue\":\"away\""), "{status} {body}");
    operator.health.set_draining();
    assert_eq!(operator.status("GET /readyz", "").await, "503");
}

#[tokio::test]
async fn livez_is_503_while_a_worker_stands_still_and_200_when_it_turns_at_once() {
    let operator = Operator::of(Health::standing_still(2), Ipv4Addr::LOCALHOST, None).await;
    operator.health.turned(0);
    let (status, body) = operator.ask("GET /livez", "").await;
    assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 503 Service Unavailable", "a worker stands still\n"));
    let turning = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        operator.health.turned(1);
    };
    // As after a pause of the whole machine, in which nothing turned.
    assert_eq!(tokio::join!(operator.status("GET /livez", ""), turning).0, "200");
    assert_eq!(operator.status("GET /livez", "").await, "200");
}

#[tokio::test]
async fn livez_and_metrics_depend_on_nothing() {
    let operator = Operator::on(Ipv4Addr::LOCALHOST, None).await;
    assert_eq!(operator.ask("GET /livez", "").await, ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned()));
    let (status, body) = operator.ask("GET /metrics", "").await;
    assert!(status.contains("200") && body.contains("# TYPE jetlinks_bridge_connections gauge"), "{status} {body}");
    assert_eq!(operator.ask("HEAD /livez", "").await.1, "");
    assert_eq!(operator.status("POST /livez", "").await, "405");
    assert_eq!(operator.status("GET /other", "").await, "404");
}

#[tokio::test]
async fn sessions_are_listed_in_parts_and_found_by_device() {
    let operator = Operator::on(Ipv4Addr::LOCALHOST, None).await;
    let (status, body) = operator.ask("GET /api/sessions?offset=1&limit=1", "").await;
    let page: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert!(status.contains("200"), "{status}");
    assert_eq!((&page["total"], &page["offset"], &page["limit"]), (&2.into(), &1.into(), &1.into()));
    assert_eq!(page["sessions"][0]["deviceId"], "device1");
    let (_, body) = operator.ask("GET /api/sessions/a%20b", "").await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&body).unwrap()["deviceId"], "a b");
    for (request, status) in [
        ("GET /api/sessions/device9", "404"),
        ("GET /api/sessions/", "404"),
        ("GET /api/sessions/%zz", "400"),
        ("GET /api/sessions?limit=0", "400"),
        ("GET /api/sessions?limit=1001", "400"),
        ("GET /api/sessions?colour=red", "400"),
        ("PUT /api/sessions/device1", "405"),
        ("DELETE /api/sessions", "405"),
        ("GET /api/other", "404"),
    ] {
        assert_eq!(operator.status(request, "").await, status, "{request}");
    }
}

#[tokio::test]
async fn delete_kicks_the_session_of_that_device() {
    let operator = Operator::on(Ipv4Addr::LOCALHOST, None).await;
    assert_eq!(operator.status("DELETE /api/sessions/device1", "").await, "204");
    assert_eq!(operator.status("DELETE /api/sessions/device9", "").await, "404");
    assert_eq!(operator.status("DELETE /api/sessions/device1?replicas=all", "").await, "204");
    assert_eq!(operator.status("DELETE /api/sessions/device1?replica=pod-1", "").await, "204");
    assert_eq!(operator.status("DELETE /api/sessions/device1?limit=1", "").await, "400");
    assert_eq!(operator.status("DELETE /api/sessions/busy", "").await, "503");
    let kicked = ["device1", "device9", "device1 anywhere", "device1 on [\"pod-1\"]", "busy"];
    assert_eq!(*operator.sessions.kicked.lock().unwrap(), kicked);
}

#[tokio::test]
async fn sessions_of_several_replicas_come_with_those_that_answered_and_those_that_did_not() {
    let operator = Operator::on(Ipv4Addr::LOCALHOST, None).await;
    let (_, body) = operator.ask("GET /api/sessions?replicas=all", "").await;
    let page: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(page["replicas"], serde_json::json!([{ "replicaId": "replica1", "total": 2 }]));
    assert_eq!((&page["missing"], &page["coordination"]), (&serde_json::json!(["replica2"]), &"ok".into()));
    assert_eq!(page["sessions"][0]["replicaId"], "replica1");
    assert_eq!(operator.status("GET /api/sessions?replica=replica2", "").await, "503");
}

#[tokio::test]
async fn a_shed_is_begun_looked_at_and_stopped_by_whoever_may_use_the_api() {
    let operator = Operator::on(Ipv4Addr::UNSPECIFIED, Some("hush")).await;
    let order = r#"{"to":"mean","rate":500,"replicas":"all"}"#;
    assert_eq!(operator.give("POST", "/api/shed", "", order).await.0, "403");
    assert!(operator.sessions.sheds.lock().unwrap().is_empty());
    let bearer = "Authorization: Bearer hush\r\n";
    let give = |method, path, body| operator.give(method, path, bearer, body);
    let (status, body) = give("POST", "/api/shed", order).await;
    let shed = r#"{"replicaId":"replica1","sessions":9,"state":"running","to":7,"rate":5,"ended":1,"left":2}"#;
    assert_eq!((status.as_str(), body), ("202", format!(r#"{{"replicas":[{shed}],"missing":[]}}"#)));
    assert_eq!(give("GET", "/api/shed?replicas=all", "").await.0, "200");
    assert_eq!(give("DELETE", "/api/shed", "").await.0, "200");
    assert_eq!(give("GET", "/api/shed?replica=a", "").await.0, "409");
    let calls = ["begin Mean 500 All", "report All", "stop This", "report Named([\"a\"])"];
    assert_eq!(*operator.sessions.sheds.lock().unwrap(), calls);
    for (method, path, body, status) in [
        ("POST", "/api/shed", "{}", "400"),
        ("POST", "/api/shed", &"x".repeat(5_000), "413"),
        ("POST", "/api/shed?replicas=all", order, "400"),
        ("GET", "/api/shed?limit=1", "", "400"),
        ("PUT", "/api/shed", order, "405"),
    ] {
        assert_eq!(give(method, path, body).await.0, status, "{method} {path}");
    }
    assert_eq!(operator.sessions.sheds.lock().unwrap().len(), calls.len());
}

#[tokio::test]
async fn whoever_may_use_the_api_follows_what_happens_until_the_time_is_over() {
    let closed = Operator::on(Ipv4Addr::UNSPECIFIED, Some("hush")).await;
    let open = Operator::on(Ipv4Addr::LOCALHOST, None).await;
    for path in ["/api/trace?device=device1", "/api/envelopes"] {
        assert_eq!(closed.status(&format!("GET {path}"), "").await, "403");
        assert_eq!(open.status(&format!("POST {path}"), "").await, "405");
        let (head, body) = open.ask(&format!("HEAD {path}"), "").await;
        assert_eq!((head.split(' ').nth(1), body.as_str()), (Some("200"), ""));
    }
    assert_eq!(open.status("GET /api/trace?device=device1&for=1d", "").await, "400");
    assert_eq!(open.status("GET /api/envelopes?type=nothing", "").await, "400");
    assert!([&closed, &open].iter().all(|operator| operator.sessions.follows.lock().unwrap().is_empty()));
    let (head, body) = open.ask("GET /api/trace?device=device1&for=1s", "").await;
    assert_eq!(head.split(' ').nth(1), Some("200"));
    // In chunks, with the last one of no bytes: it ended by itself.
    assert!(body.contains("\n{\"event\":\"following\"}\n\r\n") && body.contains("\n{\"dropped\":7}\n\r\n"), "{body}");
    assert!(body.ends_with("\r\n0\r\n\r\n"), "{body}");
    assert_eq!(open.sessions.follows.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn as_many_follow_as_may_and_probes_are_answered_all_the_same() {
    let operator = Operator::on(Ipv4Addr::LOCALHOST, None).await;
    let mut following = Vec::new();
    for _ in 0..STREAMS_MAX {
        let mut stream = operator.silent().await;
        stream.write_all(b"GET /api/envelopes HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        following.push(stream);
    }
    assert_eq!(operator.status("GET /api/envelopes", "").await, "503");
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(operator.silent().await);
    }
    assert!(operator.probe().await < PROBE);
    following.pop();
    // Its room is free once the listener has noticed that it is gone.
    let is_free = async { while operator.begins_to_follow().await != "200" {} };
    tokio::time::timeout(Duration::from_secs(60), is_free).await.unwrap();
}

#[tokio::test]
async fn the_level_of_the_log_is_shown_and_changed() {
    let operator = Operator::on(Ipv4Addr::LOCALHOST, None).await;
    assert_eq!(operator.ask("GET /api/log", "").await.1, r#"{"level":"info"}"#);
    let level = r#"{"level":"info,jetlinks_bridge::transport=debug"}"#;
    assert_eq!(operator.put("/api/log", "", level).await, ("200".to_owned(), level.to_owned()));
    assert_eq!(operator.ask("GET /api/log", "").await.1, level);
    assert_eq!(*operator.levels.lock().unwrap(), ["info,jetlinks_bridge::transport=debug"]);
}

#[tokio::test]
async fn a_bad_level_is_refused_with_a_reason_and_changes_nothing() {
    let operator = Operator::on(Ipv4Addr::LOCALHOST, None).await;
    let long = format!(r#"{{"level":"{}"}}"#, "x".repeat(5_000));
    for (body, status, reason) in [
        (r#"{"level":"none"}"#, "400", "the level is neither off, error, warn"),
        (r#"{"level":3}"#, "400", "the body is no object"),
        (r#"{"level":"debug","for":"ever"}"#, "400", "the body is no object"),
        ("debug", "400", "the body is no object"),
        ("", "400", "the body is no object"),
        (&long, "413", "more than 4096 bytes"),
    ] {
        let (answered, answer) = operator.put("/api/log", "", body).await;
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answered, status, "{body}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(reason), "{body}: {answer}");
    }
    assert!(operator.levels.lock().unwrap().is_empty());
    assert_eq!(operator.ask("GET /api/log", "").await.1, r#"{"level":"info"}"#);
    assert_eq!(operator.status("DELETE /api/log", "").await, "405");
}

#[tokio::test]
async fn whoever_may_not_use_the_api_changes_no_level() {
    let closed = Operator::on(Ipv4Addr::UNSPECIFIED, None).await;
    let open = Operator::on(Ipv4Addr::UNSPECIFIED, Some("hush")).await;
    let debug = r#"{"level":"debug"}"#;
    assert_eq!(closed.put("/api/log", "", debug).await.0, "403");
    assert_eq!(open.put("/api/log", "", debug).await.0, "403");
    assert!(closed.levels.lock().unwrap().is_empty() && open.levels.lock().unwrap().is_empty());
    assert_eq!(open.put("/api/log", "Authorization: Bearer hush\r\n", debug).await.0, "200");
    assert_eq!(closed.status("GET /api/log", "").await, "403");
}

#[tokio::test]
async fn the_api_of_an_outside_address_needs_the_token() {
    let closed = Operator::on(Ipv4Addr::UNSPECIFIED, None).await;
    assert_eq!(closed.status("GET /api/sessions", "Authorization: Bearer \r\n").await, "403");
    assert_eq!(closed.status("DELETE /api/sessions/device1", "").await, "403");
    assert!(closed.sessions.kicked.lock().unwrap().is_empty());
    assert_eq!(closed.status("GET /livez", "").await, "200");
    let open = Operator::on(Ipv4Addr::UNSPECIFIED, Some("hush")).await;
    assert_eq!(open.status("GET /api/sessions", "Authorization: Bearer hush\r\n").await, "200");
    for headers in ["", "Authorization: Bearer hus\r\n", "Authorization: Basic hush\r\n", "Authorization: hush\r\n"] {
        assert_eq!(open.status("GET /api/sessions", headers).await, "403", "{headers}");
    }
}

#[tokio::test]
async fn a_token_that_is_set_is_asked_for_on_loopback_too() {
    let operator = Operator::on(Ipv4Addr::LOCALHOST, Some("hush")).await;
    assert_eq!(operator.status("GET /api/sessions", "").await, "403");
    assert_eq!(operator.status("GET /api/sessions", "authorization: bearer hush\r\n").await, "200");
}

#[tokio::test]
async fn a_site_whose_name_means_loopback_reads_and_changes_nothing() {
    let operator = Operator::on(Ipv4Addr::LOCALHOST, None).await;
    let port = operator.address.port();
    let levels = operator.levels.clone();
    // Whether it may read, and change.
    for (host, origin, reads, changes) in [
        (format!("attacker.example:{port}"), String::new(), false, false),
        (format!("attacker.example:{port}"), format!("Origin: http://attacker.example:{port}\r\n"), false, false),
        (format!("localhost:{port}"), "Origin: http://attacker.example\r\n".to_owned(), false, false),
        (format!("localhost:{port}"), "Sec-Fetch-Site: same-site\r\n".to_owned(), false, false),
        // The console's own page, without a token.
        (format!("localhost:{port}"), format!("Origin: http://localhost:{port}\r\n"), true, false),
        (format!("localhost:{port}"), "Sec-Fetch-Site: same-origin\r\n".to_owned(), true, false),
        (format!("127.0.0.1:{port}"), String::new(), true, true),
    ] {
        let level = r#"{"level":"debug"}"#;
        for (line, body, good) in [
            ("GET /api/sessions", "", "200"),
            ("GET /api/overview", "", "200"),
            ("POST /api/commands", "{}", "400"),
            ("DELETE /api/sessions/device1", "", "204"),
            ("PUT /api/log", level, "200"),
        ] {
            let before = (operator.sessions.kicked.lock().unwrap().len(), levels.lock().unwrap().len());
            let length = body.len();
            let request = format!("{line} HTTP/1.1\r\nHost: {host}\r\n{origin}Content-Length: {length}\r\n\r\n{body}");
            let answer = operator.send(&request).await;
            let allowed = if line.starts_with("GET") { reads } else { changes };
            let status = if allowed { good } else { "403" };
            assert_eq!(answer.split(' ').nth(1), Some(status), "{request}: {answer}");
            let after = (operator.sessions.kicked.lock().unwrap().len(), levels.lock().unwrap().len());
            assert!(allowed || before == after && answer.contains("\"error\":\""), "{request}: {answer}");
        }
        // Nobody who asks for probes has a reason to hide.
        assert_eq!(
            operator.send(&format!("GET /livez HTTP/1.1\r\nHost: {host}\r\n\r\n")).await.split(' ').nth(1),
            Some("200")
        );
    }
}

#[tokio::test]
async fn a_head_over_its_limit_is_refused() {
    let operator = Operator::on(Ipv4Addr::LOCALHOST, None).await;
    let headers = format!("X-Long: {}\r\n", "x".repeat(17 * 1024));
    let mut stream = TcpStream::connect(operator.address).await.unwrap();
    let head = format!("GET /livez HTTP/1.1\r\n{headers}\r\n");
    // The peer may close while the head is still being written.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn a_silent_connection_is_closed_in_the_end() {
    let operator = Operator::on(Ipv4Addr::LOCALHOST, None).await;
    let mut silent = TcpStream::connect(operator.address).await.unwrap();
    assert_eq!(operator.status("GET /livez", "").await, "200", "others are served meanwhile");
    let mut answer = Vec::new();
    silent.read_to_end(&mut answer).await.unwrap();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
}

/// How long a probe may take, whoever else is there: one that waits for a silent connection waits for 5 s, until that is closed.
const PROBE: Duration = Duration::from_secs(4);

impl Operator {
    async fn silent(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Asks for envelopes, and leaves; the status of the answer.
    async fn begins_to_follow(&self) -> String {
        let mut stream = self.silent().await;
        stream.write_all(b"GET /api/envelopes HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        String::from_utf8_lossy(&head[9..]).into_owned()
    }

    /// Asks for a probe; the time until its answer is whole.
    async fn probe(&self) -> Duration {
        let begin = Instant::now();
        assert_eq!(self.status("GET /livez", "").await, "200");
        begin.elapsed()
    }
}

#[tokio::test]
async fn silent_connections_keep_no_probe_waiting() {
    let operator = Operator::on(Ipv4Addr::LOCALHOST, None).await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(operator.silent().await);
    }
    for _ in 0..5 {
        let took = operator.probe().await;
        assert!(took < PROBE, "{took:?} with 300 silent connections");
    }
}

#[tokio::test]
async fn new_silent_connections_keep_no_probe_waiting() {
    let operator = Operator::on(Ipv4Addr::LOCALHOST, None).await;
    let (mut silent, mut longest) = (Vec::new(), Duration::ZERO);
    for _ in 0..100 {
        silent.push(operator.silent().await);
    }
    let mut pace = tokio::time::interval(Duration::from_millis(25));
    for number in 0..160 {
        pace.tick().await;
        silent.push(operator.silent().await);
        if number % 20 == 19 {
            longest = longest.max(operator.probe().await);
        }
    }
    assert!(longest < PROBE, "{longest:?} with 40 new silent connections a second");
}

#[tokio::test]
async fn a_request_under_way_outlives_silent_connections() {
    let operator = Operator::on(Ipv4Addr::LOCALHOST, None).await;
    let body = r#"{"level":"debug"}"#;
    let mut slow = TcpStream::connect(operator.address).await.unwrap();
    let head = format!("PUT /api/log HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    slow.write_all(head.as_bytes()).await.unwrap();
    // Its head is heard before those that follow are.
    operator.probe().await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(operator.silent().await);
    }
    operator.probe().await;
    slow.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
}
