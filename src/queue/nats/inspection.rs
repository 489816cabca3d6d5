//! Whether servers, stream and permissions are as the bridge needs them. Nothing is stored and nothing is made.
//!
//! Permissions show by use. A subscription is made and given up. A message that the stream is to store names another stream
//! as the one that it expects: the stream answers that it refuses it, which it can do only for what it would have stored. A
//! subscriber without JetStream sees that message, with no payload. Other replicas would take note of a claim, so of that
//! permission only the server's own account of it is read, where the user may ask for it.

use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::RequestErrorKind as ApiErrorKind;
use async_nats::jetstream::response::Response;
use async_nats::{Client, ConnectOptions, Event, HeaderMap, Request, RequestErrorKind, ServerAddr};
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::sync::Notify;

use super::connection::{self, Access, Violation};
use super::stream::{self, StreamInfo};
use super::{NatsError, NatsSettings};
use crate::queue::Findings;

/// How long a server may take for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Product and device in the subjects of a look.
const NOBODY: &str = "jetlinks-bridge-check";

/// The stream that no look expects to find. No stream has a name with a dot.
const NO_STREAM: &str = "jetlinks.bridge.check";

/// JetStream's code for a message that expects another stream.
const OTHER_STREAM: u64 = 10_060;

/// Parts of NATS that the bridge needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NatsUse {
    /// Messages of devices go to the stream.
    pub stores: bool,
    /// Commands come by subscriptions of sessions.
    pub takes_commands: bool,
    /// Commands that come from elsewhere are handed to other replicas.
    pub hands_over: bool,
}

/// Looks at everything once, bounded by five seconds a question; a refusal comes at once.
///
/// # Errors
/// [`NatsError`] when the settings cannot be used.
pub async fn inspect(settings: &NatsSettings, used: NatsUse, findings: &Findings) -> Result<(), NatsError> {
    let Access { servers, options, .. } = Access::new(settings)?;
    let violations = Violations::default();
    let options = violations.attach(options);
    let Some(client) = reach(&servers, &options, findings).await else { return Ok(()) };
    let look = Look { client, settings, violations, findings };
    if used.stores {
        look.at_stream().await;
        for subject in stream::subjects(&settings.prefix) {
            look.store(&subject).await;
        }
    }
    look.at_subscriptions(used).await;
    if used.hands_over {
        look.command().await;
    }
    look.at_permissions().await;
    Ok(())
}

/// Connects to each server; the first connection that came about.
async fn reach(servers: &[ServerAddr], options: &ConnectOptions, findings: &Findings) -> Option<Client> {
    let mut first = None;
    let mut failures = Vec::new();
    let attempts = servers.iter().map(async |server| {
        (server, connection::connect_once(slice::from_ref(server), options, connection::CONNECT_TIMEOUT).await)
    });
    for (server, reached) in futures_util::future::join_all(attempts).await {
        let name = format!("{}:{}", server.host(), server.port());
        let subject = format!("server {name}");
        match reached {
            Ok(client) => {
                let info = client.server_info();
                findings.ok(subject, format!("answers as {}, version {}", info.server_name, info.version));
                first.get_or_insert(client);
            }
            Err(cause) => {
                let cause = cause.strip_prefix(&format!("{name}: ")).unwrap_or(&cause);
                failures.push((subject, format!("cannot be reached: {cause}")));
            }
        }
    }
    for (subject, text) in failures {
        if first.is_some() {
            findings.note(subject, text + "; the bridge takes another one of nats.servers meanwhile");
        } else {
            findings.trouble(subject, text);
        }
    }
    first
}

/// One connection and what it is asked.
struct Look<'a> {
    client: Client,
    settings: &'a NatsSettings,
    violations: Violations,
    findings: &'a Findings,
}

#[derive(Deserialize)]
struct StoreAnswer {
    stream: Option<String>,
    error: Option<StoreError>,
}

#[derive(Deserialize)]
struct StoreError {
    err_code: u64,
    description: String,
}

/// The server's own account of a user, as far as it is looked at.
#[derive(Deserialize)]
struct UserInfo {
    data: User,
}

#[derive(Deserialize)]
struct User {
    permissions: Option<Permissions>,
}

#[derive(Deserialize)]
struct Permissions {
    publish: Option<Permission>,
}

#[derive(Deserialize)]
struct Permission {
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    deny: Vec<String>,
}

impl Permission {
    fn allows(&self, subject: &str) -> bool {
        let covered = |filters: &[String]| filters.iter().any(|filter| stream::covers(filter, subject));
        (self.allow.is_empty() || covered(&self.allow)) && !covered(&self.deny)
    }
}

impl Look<'_> {
    async fn at_stream(&self) {
        let settings = self.settings;
        let subject = format!("stream {}", settings.stream);
        let context = stream::context(&self.client, settings.domain.as_deref(), ANSWER);
        let name = format!("STREAM.INFO.{}", settings.stream);
        let asked = tokio::select! {
            answer = context.request::<_, _, Response<StreamInfo>>(name, &()) => answer,
            cause = self.violations.next() => {
                return self.findings.trouble(subject, format!("JetStream does not answer: {cause}"));
            }
        };
        match asked {
            Ok(Response::Ok(info)) => match info.trouble(&settings.prefix) {
                Some(trouble) => self.findings.trouble(subject, trouble.to_string()),
                None if info.keeps_nothing() => self.findings.note(
                    subject,
                    "its retention is interest and it has no consumer: it acknowledges records and keeps none",
                ),
                None => self.findings.ok(subject, format!("is there, copies: {}", info.replicas())),
            },
            Ok(Response::Err { error }) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => self.findings.note(
                subject,
                "does not exist: the bridge makes it when it starts, where its user may publish to \
                 $JS.API.STREAM.CREATE.> (not tried)",
            ),
            Ok(Response::Err { error }) => self.findings.trouble(subject, format!("JetStream refuses: {error}")),
            Err(error) if error.kind() == ApiErrorKind::NoResponders => {
                let text = "no server here offers JetStream to this account: turn it on, or set nats.domain";
                self.findings.trouble(subject, text);
            }
            Err(error) => self.findings.trouble(subject, format!("JetStream does not answer: {error}")),
        }
    }

    /// Whether a message below one of the bridge's subjects would be stored; `filter` ends in `>`.
    async fn store(&self, filter: &str) {
        let subject = filter.replace('>', &format!("{NOBODY}.{NOBODY}.check"));
        let findings = self.findings;
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Stream", NO_STREAM);
        let request = Request::new().headers(headers).payload(Default::default()).timeout(Some(ANSWER));
        let name = format!("subject {filter}");
        let answer = tokio::select! {
            answer = self.client.send_request(subject, request) => answer,
            cause = self.violations.next() => return findings.trouble(name, cause),
        };
        match answer {
            Ok(answer) => match serde_json::from_slice::<StoreAnswer>(&answer.payload) {
                Ok(StoreAnswer { stream: Some(stream), error: Some(error) }) if error.err_code == OTHER_STREAM => {
                    if stream == self.settings.stream {
                        findings.ok(name, "may be published, and the stream stores it (nothing was stored)");
                    } else {
                        let text = format!("stream {stream} stores it too, or in place of {}", self.settings.stream);
                        findings.note(name, text);
                    }
                }
                Ok(StoreAnswer { error: Some(error), .. }) => {
                    findings.trouble(name, format!("the stream refuses it: {}", error.description));
                }
                _ => findings.note(name, "something that is no stream answers in its place"),
            },
            Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                findings.note(name, "may be published, and no stream stores it yet");
            }
            Err(error) => findings.trouble(name, format!("no acknowledgement: {error}")),
        }
    }

    async fn at_subscriptions(&self, used: NatsUse) {
        let prefix = &self.settings.prefix;
        let mut wanted = vec![format!("{prefix}.claim"), format!("{prefix}.replica")];
        if used.takes_commands || used.hands_over {
            wanted.push(format!("{prefix}.command.{NOBODY}.{NOBODY}.>"));
        }
        let echo = connection::echo_subject(&self.client, prefix);
        let mut kept = Vec::new();
        for subject in &wanted {
            // An error means that the connection has just ended, which the echo shows.
            kept.extend(self.client.subscribe(subject.clone()).await.ok());
        }
        let is_heard = self.is_heard(echo).await;
        drop(kept);
        let refused = self.violations.all();
        for subject in &wanted {
            let name = format!("subject {subject}");
            let is_refused = |violation: &Violation| *violation == Violation::Subscription(subject.clone());
            if refused.iter().any(is_refused) {
                self.findings.trouble(name, "must be subscribed, and the user may not: give it that permission");
            } else if is_heard {
                self.findings.ok(name, "may be subscribed");
            } else {
                self.findings.note(name, "not proved: the server does not say what it has taken");
            }
        }
        let name = format!("subject {prefix}.echo.>");
        if is_heard {
            self.findings.ok(name, "may be published and subscribed");
        } else {
            let text = "must be published and subscribed, and the user may not: give it both permissions";
            self.findings.trouble(name, text);
        }
    }

    /// Whether the connection hears itself. By then the server has handled everything that was sent before.
    async fn is_heard(&self, echo: String) -> bool {
        let Ok(mut echoes) = self.client.subscribe(echo.clone()).await else { return false };
        let _ended = self.client.publish(echo.clone(), Default::default()).await;
        let heard = async {
            tokio::select! {
                heard = echoes.next() => heard.is_some(),
                () = self.violations.about(&echo) => false,
            }
        };
        tokio::time::timeout(ANSWER, heard).await.unwrap_or(false)
    }

    /// Whether commands may be published, to a device that nobody has.
    async fn command(&self) {
        let subject = format!("{}.command.{NOBODY}.{NOBODY}.state-check", self.settings.prefix);
        let name = format!("subject {}.command.>", self.settings.prefix);
        let request = Request::new().payload(Default::default()).timeout(Some(ANSWER));
        let answer = tokio::select! {
            answer = self.client.send_request(subject, request) => answer,
            cause = self.violations.next() => return self.findings.trouble(name, cause),
        };
        match answer {
            Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                self.findings.ok(name, "may be published");
            }
            Ok(_) => self.findings.trouble(
                name,
                "somebody answers for a device that does not exist, such as a stream over these subjects: take them out \
                 of it",
            ),
            Err(error) => self.findings.note(name, format!("not proved: {error}")),
        }
    }

    /// Reads of the permissions that cannot be tried without others hearing it.
    async fn at_permissions(&self) {
        let untried = ["claim", "replica"].map(|name| format!("{}.{name}", self.settings.prefix));
        let request = Request::new().payload(Default::default()).timeout(Some(ANSWER));
        let answer = tokio::select! {
            answer = self.client.send_request("$SYS.REQ.USER.INFO", request) => answer.ok(),
            _refusal = self.violations.next() => None,
        };
        let told = answer.and_then(|answer| serde_json::from_slice::<UserInfo>(&answer.payload).ok());
        for subject in untried {
            let name = format!("subject {subject}");
            match told.as_ref().map(|told| told.data.permissions.as_ref().and_then(|all| all.publish.as_ref())) {
                Some(None) => self.findings.ok(name, "may be published"),
                Some(Some(permission)) if permission.allows(&subject) => self.findings.ok(name, "may be published"),
                Some(Some(_)) => {
                    self.findings.trouble(name, "must be published, and the user may not: give it that permission");
                }
                None => self.findings.note(
                    name,
                    "publishing was not tried, as every replica would hear it, and the user may not ask the server \
                     ($SYS.REQ.USER.INFO)",
                ),
            }
        }
    }
}

/// Refusals of the server that were not looked at yet.
#[derive(Debug, Clone, Default)]
struct Violations(Arc<Heard>);

#[derive(Debug, Default)]
struct Heard {
    violations: Mutex<Vec<Violation>>,
    wake: Notify,
}

impl Violations {
    fn attach(&self, options: ConnectOptions) -> ConnectOptions {
        let heard = self.clone();
        options.event_callback(move |event| {
            if let Event::ServerError(error) = &event {
                heard.lock().extend(Violation::read(error));
                heard.0.wake.notify_one();
            }
            std::future::ready(())
        })
    }

    /// Takes them.
    fn all(&self) -> Vec<Violation> {
        std::mem::take(&mut *self.lock())
    }

    /// Waits for one, and takes all; the last one in words.
    async fn next(&self) -> String {
        loop {
            match self.all().pop() {
                Some(Violation::Publish(subject)) => {
                    return format!("the user may not publish to {subject}: give it that permission");
                }
                Some(Violation::Subscription(subject)) => {
                    return format!("the user may not subscribe {subject}: give it that permission");
                }
                Some(Violation::Payload) => return "the user may send no message of this size".to_owned(),
                None => self.0.wake.notified().await,
            }
        }
    }

    /// Waits for one about that subject, and takes none.
    async fn about(&self, subject: &str) {
        let is_about = |violation: &Violation| match violation {
            Violation::Publish(refused) | Violation::Subscription(refused) => refused == subject,
            Violation::Payload => false,
        };
        while !self.lock().iter().any(is_about) {
            self.0.wake.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Violation>> {
        self.0.violations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
