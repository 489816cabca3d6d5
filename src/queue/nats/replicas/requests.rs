//! Requests over core NATS, many at a time: how a command that came elsewhere reaches the replica that holds its device.
//!
//! 1. `send` puts a request in line; one task publishes them in that order, each with a reply subject that ends in its
//!    number. Nobody waits for an answer before the next request leaves.
//! 2. One subscription takes all answers; `next` hands them out. The server's "no responders" is an answer as well.
//!
//! A request leaves only while the server is there: what waited beyond its deadline is never sent, so that a device does
//! not get a command whose caller was told that its time is over.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, PublishErrorKind, ServerAddr, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::queue::nats::connection::{self, Capacity, IfRefused, Link, Listener};
use crate::queue::nats::headers::unescape;
use crate::queue::nats::line::Line;
use crate::queue::nats::{NatsError, NatsSettings};

/// Operations that may wait for the connection's task beside one for each request.
const OPERATIONS_SPARE: usize = 64;

/// After the server was lost, the other replicas need up to two seconds to be back, and their interests with them.
const GRACE: Duration = Duration::from_millis(2500);

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsRequest {
    /// The caller's own name for it; comes back with the answer.
    pub number: u64,
    /// The whole subject.
    pub subject: String,
    /// Headers; those with a line break in their value are left out.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub payload: Bytes,
    /// Later than this it is not sent.
    pub deadline: Instant,
}

/// What became of a request that was sent, or could not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NatsAnswer {
    /// Somebody answered.
    Envelope(NatsEnvelope),
    /// Nobody is interested in the subject.
    NoResponders,
    /// The client does not take it; the text says why.
    NotSent(String),
}

/// An envelope as it travels on NATS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NatsEnvelope {
    /// The envelope, or in binary mode its `data`.
    pub payload: Bytes,
    /// Header `content-type`.
    pub content_type: Option<String>,
    /// Header `traceparent`.
    pub traceparent: Option<String>,
    /// Binary mode: the attributes by their bare names, values as they are.
    pub attributes: Vec<(String, String)>,
    /// Headers `Nats-Service-Error-Code` and `Nats-Service-Error`, where it is a failure.
    pub failure: Option<(String, String)>,
}

/// One thread's requests. Never cloned: one task asks for the answers.
#[derive(Debug)]
pub struct NatsRequests {
    shared: Rc<Shared>,
    supervisor: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    requests: Line<NatsRequest>,
    answers: Line<(u64, NatsAnswer)>,
    is_open: Cell<bool>,
}

impl NatsRequests {
    /// Starts on the calling thread, inside a `LocalSet`; at most `waiting_max` requests are to wait for their answers
    /// at a time, or answers are lost. A server that is away is waited for.
    ///
    /// # Errors
    /// [`NatsError`] when the settings cannot be used.
    ///
    /// # Panics
    /// Outside a `LocalSet`.
    pub fn start(settings: &NatsSettings, waiting_max: usize) -> Result<Self, NatsError> {
        let (servers, options) = connection::options(settings)?;
        let shared = Rc::new(Shared::default());
        let capacity = Capacity { operations: waiting_max + OPERATIONS_SPARE, subscription: waiting_max };
        let supervisor =
            tokio::task::spawn_local(supervise(Rc::clone(&shared), servers, options, capacity, settings.ping_interval));
        Ok(Self { shared, supervisor })
    }

    /// Whether requests find their way: the server is there, and the other replicas have had the time to be back.
    pub fn is_open(&self) -> bool {
        self.shared.is_open.get()
    }

    /// Puts a request in line. Never blocks.
    pub fn send(&self, request: NatsRequest) {
        self.shared.requests.push(request);
    }

    /// The next answer, with the number of its request. An answer may come for a request that was given up.
    pub async fn next(&self) -> (u64, NatsAnswer) {
        poll_fn(|cx| self.shared.answers.poll_pop(cx)).await
    }
}

impl Drop for NatsRequests {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

async fn supervise(
    shared: Rc<Shared>,
    servers: Vec<ServerAddr>,
    options: async_nats::ConnectOptions,
    capacity: Capacity,
    ping_interval: Duration,
) {
    let connecting = connection::connect(servers, options, capacity, "hand-over of commands", ping_interval);
    let Some(connection) = connecting.await else {
        return;
    };
    let inbox = connection.client.new_inbox();
    let Some(answers) = connection.control.listen(format!("{inbox}.*"), IfRefused::Leave).await else { return };
    let mut tasks = JoinSet::new();
    tasks.spawn_local(publish(Rc::clone(&shared), connection.client.clone(), connection.link.clone(), inbox));
    tasks.spawn_local(take_answers(Rc::clone(&shared), answers));
    let mut link = connection.link.clone();
    loop {
        let seen = *link.borrow_and_update();
        shared.is_open.set(seen.connected && seen.connects <= 1);
        let changed = if seen.connected && seen.connects > 1 {
            match tokio::time::timeout(GRACE, link.changed()).await {
                Ok(changed) => changed,
                Err(_) => {
                    shared.is_open.set(true);
                    link.changed().await
                }
            }
        } else {
            link.changed().await
        };
        if changed.is_err() {
            return;
        }
    }
}

async fn publish(shared: Rc<Shared>, client: Client, mut link: watch::Receiver<Link>, inbox: String) {
    loop {
        let request = poll_fn(|cx| shared.requests.poll_pop(cx)).await;
        if connection::connected(&mut link).await.is_none() {
            return;
        }
        if Instant::now() > request.deadline {
            continue;
        }
        let mut headers = HeaderMap::new();
        for (name, value) in request.headers.iter().filter(|(_, value)| !value.contains(['\r', '\n'])) {
            headers.insert(*name, value.as_str());
        }
        let reply = format!("{inbox}.{}", request.number);
        let sent = client.publish_with_reply_and_headers(request.subject, reply, headers, request.payload).await;
        match sent {
            Ok(()) => {}
            Err(error) if error.kind() == PublishErrorKind::Send => return,
            Err(error) => shared.answers.push((request.number, NatsAnswer::NotSent(error.to_string()))),
        }
    }
}

async fn take_answers(shared: Rc<Shared>, mut answers: Listener) {
    while let Some(message) = answers.next().await {
        let number = message.subject.rsplit('.').next().and_then(|number| number.parse().ok());
        if let Some(number) = number {
            shared.answers.push((number, answer(message)));
        }
    }
}

fn answer(message: Message) -> NatsAnswer {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return NatsAnswer::NoResponders;
    }
    let mut envelope = NatsEnvelope { payload: message.payload, ..NatsEnvelope::default() };
    let Some(headers) = message.headers else { return NatsAnswer::Envelope(envelope) };
    let text = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
    envelope.content_type = text("content-type");
    envelope.traceparent = text("traceparent");
    envelope.failure = text("Nats-Service-Error-Code").map(|code| {
        let text = text("Nats-Service-Error").unwrap_or_default();
        (code, text)
    });
    for (name, values) in headers.iter() {
        let name: &str = name.as_ref();
        if let (Some(name), Some(value)) = (name.strip_prefix("ce-"), values.first()) {
            envelope.attributes.push((name.to_owned(), unescape(value.as_str())));
        }
    }
    NatsAnswer::Envelope(envelope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_keeps_what_its_headers_say() {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "application/json");
        headers.insert("ce-subject", "%E6%B8%A9%20%22");
        headers.insert("Nats-Service-Error-Code", "TIME_OUT");
        headers.insert("Nats-Service-Error", "no reply in time");
        let mut message = Message {
            subject: "_INBOX.a.7".into(),
            reply: None,
            payload: Bytes::from_static(b"{}"),
            headers: Some(headers),
            status: None,
            description: None,
            length: 0,
        };
        let NatsAnswer::Envelope(envelope) = answer(message.clone()) else { panic!("an envelope") };
        assert_eq!(envelope.content_type.as_deref(), Some("application/json"));
        assert_eq!(envelope.attributes, [("subject".to_owned(), "温 \"".to_owned())]);
        assert_eq!(envelope.failure, Some(("TIME_OUT".to_owned(), "no reply in time".to_owned())));
        message.status = Some(StatusCode::NO_RESPONDERS);
        assert_eq!(answer(message), NatsAnswer::NoResponders);
    }
}
