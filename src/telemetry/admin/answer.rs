//! From a request to its answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Collected, Empty, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Semaphore;

use super::access;
use super::commands::{COMMAND_BYTES_MAX, CommandRefusal, Commands};
use super::console;
use super::follow::{self, FollowOrder, Follows, TooMany};
use super::overview::Deployment;
use super::query;
use super::server::Progress;
use super::sessions::Sessions;
use super::shed::{ShedOrder, ShedRefusal, Sheds};
use super::stream;
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

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
const PLAIN: &str = "text/plain; charset=utf-8";

/// Parts of the process that the listener shows.
#[derive(Clone)]
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
    /// Room for their answers, of all listeners: [`STREAMS_MAX`](super::STREAMS_MAX).
    pub streams: Arc<Semaphore>,
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

/// Status and reason of a request that is not carried out.
struct Refused(StatusCode, String);

/// A request whose query or body is not what it should be.
impl From<&'static str> for Refused {
    fn from(reason: &'static str) -> Self {
        Self(StatusCode::BAD_REQUEST, reason.to_owned())
    }
}

impl From<CommandRefusal> for Refused {
    fn from(refusal: CommandRefusal) -> Self {
        let status = match refusal {
            CommandRefusal::Invalid(_) => StatusCode::BAD_REQUEST,
            CommandRefusal::NoCommands => StatusCode::CONFLICT,
            CommandRefusal::Offline(_) => StatusCode::NOT_FOUND,
            CommandRefusal::Busy => StatusCode::SERVICE_UNAVAILABLE,
            CommandRefusal::Unanswered(_) => StatusCode::GATEWAY_TIMEOUT,
        };
        Self(status, refusal.to_string())
    }
}

impl From<ShedRefusal> for Refused {
    fn from(refusal: ShedRefusal) -> Self {
        let status = match refusal {
            ShedRefusal::Alone => StatusCode::CONFLICT,
            ShedRefusal::Busy | ShedRefusal::Draining => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, refusal.to_string())
    }
}

impl From<TooMany> for Refused {
    fn from(refusal: TooMany) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, refusal.to_string())
    }
}

impl Admin {
    /// Answers a request that came in on a loopback address or on another one.
    pub(super) async fn answer(&self, request: Request<Incoming>, is_loopback: bool) -> Answer {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        if let Some(rest) = path.strip_prefix("/api/") {
            if let Some(reason) = access::refusal(&parts, self.token.as_ref(), is_loopback) {
                return error(StatusCode::FORBIDDEN, reason);
            }
            let answer = self.api(&parts, rest, body).await;
            return answer.unwrap_or_else(|Refused(status, reason)| error(status, &reason));
        }
        let is_read = is_read(&parts);
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

    async fn api(&self, parts: &Parts, path: &str, body: Incoming) -> Result<Answer, Refused> {
        let (method, query) = (&parts.method, parts.uri.query());
        let is_read = is_read(parts);
        match path {
            "sessions" if is_read => {
                let page = self.sessions.list(query::sessions(query.unwrap_or_default())?).await;
                Ok(json(StatusCode::OK, &page.ok_or_else(busy)?))
            }
            "sessions" => Ok(not_allowed("GET, HEAD")),
            "commands" if *method == Method::POST => self.command(parts, body).await,
            "commands" => Ok(not_allowed("POST")),
            "overview" if is_read => Ok(json(StatusCode::OK, &self.overview().await)),
            "overview" => Ok(not_allowed("GET, HEAD")),
            "shed" => self.shed(parts, body).await,
            "trace" if is_read => self.follow(parts, query::trace(query.unwrap_or_default())?).await,
            "envelopes" if is_read => self.follow(parts, query::envelopes(query.unwrap_or_default())?).await,
            "trace" | "envelopes" => Ok(not_allowed("GET, HEAD")),
            "log" if is_read => Ok(self.level()),
            "log" if *method == Method::PUT => self.set_level(body).await,
            "log" => Ok(not_allowed("GET, HEAD, PUT")),
            _ => match path.strip_prefix("sessions/") {
                Some(device) if !device.is_empty() && !device.contains('/') => self.session(parts, device).await,
                _ => Err(Refused(StatusCode::NOT_FOUND, "no such path".to_owned())),
            },
        }
    }

    async fn session(&self, parts: &Parts, device: &str) -> Result<Answer, Refused> {
        let device = address::from_token(device).ok_or("no device id")?;
        if is_read(parts) {
            let session = self.sessions.find(&device).await.ok_or_else(no_session)?;
            return Ok(json(StatusCode::OK, &session));
        }
        if parts.method != Method::DELETE {
            return Ok(not_allowed("GET, HEAD, DELETE"));
        }
        let replicas = query::replicas(parts.uri.query().unwrap_or_default())?;
        if !self.sessions.kick(&device, replicas).await.ok_or_else(busy)? {
            return Err(no_session());
        }
        tracing::info!(device = device.as_ref(), "session ended by an operator");
        let mut answer = Response::new(Empty::new().boxed_unsync());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        Ok(answer)
    }

    async fn command(&self, parts: &Parts, body: Incoming) -> Result<Answer, Refused> {
        let sent = self.commands.send(whole(body, COMMAND_BYTES_MAX).await?)?;
        goes_on(parts, sent.longest);
        Ok(text(StatusCode::OK, JSON, sent.outcome.await?))
    }

    fn level(&self) -> Answer {
        json(StatusCode::OK, &LogLevel { level: self.log.level() })
    }

    async fn set_level(&self, body: Incoming) -> Result<Answer, Refused> {
        const FORM: &str = r#"the body is no object with one member, such as {"level":"debug"}"#;
        let body = whole(body, BODY_BYTES_MAX).await?;
        let LogLevel { level } = serde_json::from_slice(&body).map_err(|_| FORM)?;
        self.log.set_level(&level).map_err(|cause| Refused(StatusCode::BAD_REQUEST, cause.to_string()))?;
        tracing::info!(level, "log level changed by an operator");
        Ok(self.level())
    }

    async fn follow(&self, parts: &Parts, order: FollowOrder) -> Result<Answer, Refused> {
        if parts.method == Method::HEAD {
            return Ok(text(StatusCode::OK, NDJSON, String::new()));
        }
        let longest = order.longest;
        let permit = Arc::clone(&self.streams).try_acquire_owned().map_err(|_| TooMany)?;
        tracing::info!(filter = ?order.filter, replicas = ?order.replicas, ?longest, "an operator follows what happens");
        let lines = self.follows.follow(order).await?;
        goes_on(parts, longest);
        Ok(stream::live(NDJSON, permit, follow::chunks(lines, longest)))
    }

    async fn shed(&self, parts: &Parts, body: Incoming) -> Result<Answer, Refused> {
        let replicas = query::replicas(parts.uri.query().unwrap_or_default())?;
        Ok(match parts.method {
            Method::GET | Method::HEAD => json(StatusCode::OK, &self.sheds.report(replicas).await?),
            Method::DELETE => json(StatusCode::OK, &self.sheds.stop(replicas).await?),
            Method::POST if parts.uri.query().is_none() => {
                let order = ShedOrder::read(&whole(body, BODY_BYTES_MAX).await?)?;
                json(StatusCode::ACCEPTED, &self.sheds.begin(order).await?)
            }
            Method::POST => return Err("the replicas that shed are named in the body".into()),
            _ => not_allowed("GET, HEAD, POST, DELETE"),
        })
    }
}

/// The body of `/api/log`, both ways.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogLevel {
    level: String,
}

/// Lets the exchange of a request take `longest` in addition to the time of every exchange.
fn goes_on(parts: &Parts, longest: Duration) {
    if let Some(progress) = parts.extensions.get::<Arc<Progress>>() {
        progress.goes_on(longest);
    }
}

/// The whole body of a request.
async fn whole(body: Incoming, bytes_max: usize) -> Result<Bytes, Refused> {
    let body = Limited::new(body, bytes_max).collect().await;
    body.map(Collected::to_bytes).map_err(|_| {
        let reason = format!("the body has more than {bytes_max} bytes, or did not arrive");
        Refused(StatusCode::PAYLOAD_TOO_LARGE, reason)
    })
}

fn is_read(parts: &Parts) -> bool {
    matches!(parts.method, Method::GET | Method::HEAD)
}

fn busy() -> Refused {
    Refused(StatusCode::SERVICE_UNAVAILABLE, "too many requests wait for answers of other replicas".to_owned())
}

fn no_session() -> Refused {
    Refused(StatusCode::NOT_FOUND, "this replica holds no session of that device".to_owned())
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

fn not_allowed(methods: &'static str) -> Answer {
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "no such method here");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    answer
}
