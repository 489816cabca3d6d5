//! From a request to its answer.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::access;
use super::sessions::{Page, Sessions};
use crate::protocol::address;
use crate::protocol::secret::Secret;
use crate::telemetry::health::Health;
use crate::telemetry::log::LogControl;
use crate::telemetry::metric::{self, Metrics};

/// Sessions in one answer, unless `limit` says otherwise.
const LIMIT_DEFAULT: usize = 100;

/// Sessions in one answer at most; some 300 KiB.
const LIMIT_MAX: usize = 1_000;

/// Body of a request at most, in bytes.
const BODY_BYTES_MAX: usize = 4 * 1024;

/// How long `/livez` waits for a worker to turn, and how often it looks.
const LIFE_SIGN: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(20);

const JSON: &str = "application/json";
const PLAIN: &str = "text/plain; charset=utf-8";

/// Parts of the process that the listener shows.
#[derive(Debug, Clone)]
pub struct Admin {
    /// For `/livez` and `/readyz`.
    pub health: Arc<Health>,
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/api`.
    pub sessions: Arc<dyn Sessions>,
    /// For `/api/log`.
    pub log: LogControl,
    /// For `/api`: asked for on every listener when set, and without one `/api` is closed to all but loopback, and to
    /// the pages of other sites there.
    pub token: Option<Secret>,
}

pub(super) type Answer = Response<Full<Bytes>>;

impl Admin {
    /// Answers a request that came in on a loopback address or on another one.
    pub(super) async fn answer<B>(&self, request: Request<B>, is_loopback: bool) -> Answer
    where
        B: Body<Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        let (parts, body) = request.into_parts();
        let (method, path) = (&parts.method, parts.uri.path());
        if let Some(rest) = path.strip_prefix("/api/") {
            if let Some(reason) = access::refusal(&parts, self.token.as_ref(), is_loopback) {
                return error(StatusCode::FORBIDDEN, reason);
            }
            return self.api(&parts, rest, body).await;
        }
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        match path {
            "/livez" | "/readyz" | "/metrics" if !is_read => not_allowed("GET, HEAD"),
            "/livez" => self.livez().await,
            "/readyz" => self.readyz(),
            "/metrics" => text(StatusCode::OK, metric::CONTENT_TYPE, self.metrics.render()),
            _ => error(StatusCode::NOT_FOUND, "no such path"),
        }
    }

    /// Depends on no queue: restarting the bridge mends no queue.
    async fn livez(&self) -> Answer {
        // A process that stood still as a whole, as in a pause of its machine, turns again when it is asked.
        let lives = async {
            let mut look = tokio::time::interval(LOOK);
            while !self.health.lives() {
                look.tick().await;
            }
        };
        match tokio::time::timeout(LIFE_SIGN, lives).await {
            Ok(()) => text(StatusCode::OK, PLAIN, "ok\n".to_owned()),
            Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "a worker stands still\n".to_owned()),
        }
    }

    fn readyz(&self) -> Answer {
        let readiness = self.health.readiness();
        let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let body = json!({
            "ready": readiness.ready,
            "draining": readiness.draining,
            "queue": readiness.queue.as_str(),
            "registry": readiness.registry.as_str(),
            "coordination": readiness.coordination.as_str(),
            "commands": readiness.commands.as_str(),
            "capacity": readiness.capacity.as_str(),
        });
        json(status, &body)
    }

    async fn api<B>(&self, parts: &Parts, path: &str, body: B) -> Answer
    where
        B: Body<Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        let method = &parts.method;
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        match path {
            "sessions" if is_read => return self.list(parts.uri.query().unwrap_or_default()).await,
            "sessions" => return not_allowed("GET, HEAD"),
            "log" if is_read => return self.level(),
            "log" if *method == Method::PUT => return self.set_level(body).await,
            "log" => return not_allowed("GET, HEAD, PUT"),
            _ => {}
        }
        let Some(device) = path.strip_prefix("sessions/").filter(|device| !device.is_empty() && !device.contains('/'))
        else {
            return error(StatusCode::NOT_FOUND, "no such path");
        };
        let Some(device) = address::from_token(device) else { return error(StatusCode::BAD_REQUEST, "no device id") };
        if is_read {
            return match self.sessions.find(&device).await {
                Some(session) => json(StatusCode::OK, &session),
                None => no_session(),
            };
        }
        if *method != Method::DELETE {
            return not_allowed("GET, HEAD, DELETE");
        }
        if !self.sessions.kick(&device).await {
            return no_session();
        }
        tracing::info!(device = device.as_ref(), "a session is ended by an operator");
        let mut answer = Response::new(Full::default());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        answer
    }

    fn level(&self) -> Answer {
        json(StatusCode::OK, &LogLevel { level: self.log.level() })
    }

    async fn set_level<B>(&self, body: B) -> Answer
    where
        B: Body<Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        const FORM: &str = r#"the body is no object with one member, such as {"level":"debug"}"#;
        let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
            return error(StatusCode::PAYLOAD_TOO_LARGE, "the body has more than 4096 bytes, or did not arrive");
        };
        let Ok(LogLevel { level }) = serde_json::from_slice(&body.to_bytes()) else {
            return error(StatusCode::BAD_REQUEST, FORM);
        };
        if let Err(cause) = self.log.set_level(&level) {
            return error(StatusCode::BAD_REQUEST, &cause.to_string());
        }
        tracing::info!(level, "the level of the log is changed by an operator");
        self.level()
    }

    async fn list(&self, query: &str) -> Answer {
        let (mut offset, mut limit) = (0, LIMIT_DEFAULT);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let number = value.parse::<usize>();
            match (name, number) {
                ("offset", Ok(number)) => offset = number,
                ("limit", Ok(number)) if (1..=LIMIT_MAX).contains(&number) => limit = number,
                _ => return error(StatusCode::BAD_REQUEST, "offset is a number, limit one from 1 to 1000"),
            }
        }
        let (total, sessions) = self.sessions.list(offset, limit).await;
        json(StatusCode::OK, &Page { total, offset, limit, sessions })
    }
}

/// The body of `/api/log`, both ways.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogLevel {
    level: String,
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    match serde_json::to_string(body) {
        Ok(body) => text(status, JSON, body),
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be written"),
    }
}

fn error(status: StatusCode, message: &str) -> Answer {
    text(status, JSON, json!({ "error": message }).to_string())
}

fn no_session() -> Answer {
    error(StatusCode::NOT_FOUND, "this replica holds no session of that device")
}

fn not_allowed(methods: &'static str) -> Answer {
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "no such method here");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    answer
}
