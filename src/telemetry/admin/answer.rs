//! From a request to its answer.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Collected, Empty, Full, Limited};
use hyper::body::{Body, Bytes};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::access;
use super::commands::{COMMAND_BYTES_MAX, Commands};
use super::console;
use super::follow::{self, Follows};
use super::overview::Deployment;
use super::query;
use super::server::Progress;
use super::sessions::Sessions;
use super::shed::{ShedOrder, ShedRefusal, ShedReport, Sheds};
use super::stream::{self, StreamRoom};
use crate::protocol::address;
use crate::protocol::secret::Secret;
use crate::telemetry::health::Health;
use crate::telemetry::log::LogControl;
use crate::telemetry::metric::{self, Metrics};

/// Body of a request at most, in bytes.
const BODY_BYTES_MAX: usize = 4 * 1024;

/// How long `/livez` waits for a worker to turn, and how often it looks.
const LIFE_SIGN: Duration = Duration::from_millis(500);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

const BUSY: &str = "too many requests wait for answers of other replicas";

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
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
    /// For `/api/shed`.
    pub sheds: Arc<dyn Sheds>,
    /// For `/api/trace` and `/api/envelopes`.
    pub follows: Arc<dyn Follows>,
    /// Room for their answers, of all listeners.
    pub streams: StreamRoom,
    /// For `/api/commands`.
    pub commands: Arc<dyn Commands>,
    /// For `/api/overview`.
    pub deployment: Deployment,
    /// For `/api/log`.
    pub log: LogControl,
    /// For `/api`: asked for on every listener when set, and without one `/api` is closed to all but loopback, and to
    /// the pages of other sites there.
    pub token: Option<Secret>,
}

/// Body of an answer: whole, or one that goes on ([`super::stream`]).
pub(super) type AnswerBody = UnsyncBoxBody<Bytes, Infallible>;

pub(super) type Answer = Response<AnswerBody>;

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
            _ => match console::file(path, &parts.headers) {
                Some(_) if !is_read => not_allowed("GET, HEAD"),
                Some(file) => file.map(|content| Full::from(content).boxed_unsync()),
                None => error(StatusCode::NOT_FOUND, "no such path"),
            },
        }
    }

    /// Depends on no queue: restarting the bridge mends no queue.
    async fn livez(&self) -> Answer {
        // A process that stood still as a whole, as in a pause of its machine, turns again when it is asked.
        let lives = async {
            let mut polls = tokio::time::interval(POLL_INTERVAL);
            while !self.health.lives() {
                polls.tick().await;
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
            "commands" if *method == Method::POST => return self.command(parts, body).await,
            "commands" => return not_allowed("POST"),
            "overview" if is_read => return json(StatusCode::OK, &self.overview().await),
            "overview" => return not_allowed("GET, HEAD"),
            "shed" => return self.shed(parts, is_read, body).await,
            "trace" | "envelopes" if is_read => return self.follow(parts, path).await,
            "trace" | "envelopes" => return not_allowed("GET, HEAD"),
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
        let replicas = match query::replicas(parts.uri.query().unwrap_or_default()) {
            Ok(replicas) => replicas,
            Err(reason) => return error(StatusCode::BAD_REQUEST, reason),
        };
        match self.sessions.kick(&device, replicas).await {
            Some(true) => {}
            Some(false) => return no_session(),
            None => return error(StatusCode::SERVICE_UNAVAILABLE, BUSY),
        }
        tracing::info!(device = device.as_ref(), "session ended by an operator");
        let mut answer = Response::new(Empty::new().boxed_unsync());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        answer
    }

    async fn command<B>(&self, parts: &Parts, body: B) -> Answer
    where
        B: Body<Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        let body = match whole(body, COMMAND_BYTES_MAX).await {
            Ok(body) => body,
            Err(answer) => return answer,
        };
        let outcome = match self.commands.send(body) {
            Ok(sent) => {
                if let Some(progress) = parts.extensions.get::<Arc<Progress>>() {
                    progress.goes_on(sent.longest);
                }
                sent.outcome.await
            }
            Err(refusal) => Err(refusal),
        };
        match outcome {
            Ok(envelope) => text(StatusCode::OK, JSON, envelope),
            Err(refusal) => error(refusal.status(), &refusal.to_string()),
        }
    }

    fn level(&self) -> Answer {
        json(StatusCode::OK, &LogLevel { level: self.log.level() })
    }

    async fn set_level<B>(&self, body: B) -> Answer
    where
        B: Body<Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        const FORM: &str = r#"the body is no object with one member, such as {"level":"debug"}"#;
        let body = match whole(body, BODY_BYTES_MAX).await {
            Ok(body) => body,
            Err(answer) => return answer,
        };
        let Ok(LogLevel { level }) = serde_json::from_slice(&body) else {
            return error(StatusCode::BAD_REQUEST, FORM);
        };
        if let Err(cause) = self.log.set_level(&level) {
            return error(StatusCode::BAD_REQUEST, &cause.to_string());
        }
        tracing::info!(level, "log level changed by an operator");
        self.level()
    }

    async fn list(&self, query: &str) -> Answer {
        let query = match query::sessions(query) {
            Ok(query) => query,
            Err(reason) => return error(StatusCode::BAD_REQUEST, reason),
        };
        match self.sessions.list(query).await {
            Some(page) => json(StatusCode::OK, &page),
            None => error(StatusCode::SERVICE_UNAVAILABLE, BUSY),
        }
    }

    async fn follow(&self, parts: &Parts, path: &str) -> Answer {
        let query = parts.uri.query().unwrap_or_default();
        let order = if path == "trace" { query::trace(query) } else { query::envelopes(query) };
        let order = match order {
            Ok(order) => order,
            Err(reason) => return error(StatusCode::BAD_REQUEST, reason),
        };
        if parts.method == Method::HEAD {
            return text(StatusCode::OK, NDJSON, String::new());
        }
        let longest = order.longest;
        let Some(permit) = self.streams.take() else {
            return error(StatusCode::SERVICE_UNAVAILABLE, &follow::TooMany.to_string());
        };
        tracing::info!(filter = ?order.filter, replicas = ?order.replicas, ?longest, "an operator follows what happens");
        match self.follows.follow(order).await {
            Ok(lines) => stream::live(NDJSON, longest, permit, follow::chunks(lines, longest)),
            Err(refusal) => error(StatusCode::SERVICE_UNAVAILABLE, &refusal.to_string()),
        }
    }

    async fn shed<B>(&self, parts: &Parts, is_read: bool, body: B) -> Answer
    where
        B: Body<Error: Into<Box<dyn Error + Send + Sync>>>,
    {
        let replicas = match query::replicas(parts.uri.query().unwrap_or_default()) {
            Ok(replicas) => replicas,
            Err(reason) => return error(StatusCode::BAD_REQUEST, reason),
        };
        if is_read {
            return report(StatusCode::OK, self.sheds.report(replicas).await);
        }
        match parts.method {
            Method::DELETE => report(StatusCode::OK, self.sheds.stop(replicas).await),
            Method::POST if parts.uri.query().is_none() => {
                let body = match whole(body, BODY_BYTES_MAX).await {
                    Ok(body) => body,
                    Err(answer) => return answer,
                };
                match ShedOrder::read(&body) {
                    Ok(order) => report(StatusCode::ACCEPTED, self.sheds.begin(order).await),
                    Err(reason) => error(StatusCode::BAD_REQUEST, reason),
                }
            }
            Method::POST => error(StatusCode::BAD_REQUEST, "the replicas that shed are named in the body"),
            _ => not_allowed("GET, HEAD, POST, DELETE"),
        }
    }
}

/// The body of `/api/log`, both ways.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogLevel {
    level: String,
}

/// The whole body of a request, or the answer to one that is too long.
async fn whole<B>(body: B, bytes_max: usize) -> Result<Bytes, Answer>
where
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>>,
{
    let body = Limited::new(body, bytes_max).collect().await;
    let too_long = format!("the body has more than {bytes_max} bytes, or did not arrive");
    body.map(Collected::to_bytes).map_err(|_| error(StatusCode::PAYLOAD_TOO_LARGE, &too_long))
}

fn report(status: StatusCode, report: Result<ShedReport, ShedRefusal>) -> Answer {
    match report {
        Ok(report) => json(status, &report),
        Err(refusal) => {
            let status = match refusal {
                ShedRefusal::Alone => StatusCode::CONFLICT,
                ShedRefusal::Busy | ShedRefusal::Draining => StatusCode::SERVICE_UNAVAILABLE,
            };
            error(status, &refusal.to_string())
        }
    }
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::from(body).boxed_unsync());
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
