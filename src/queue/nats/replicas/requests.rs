//! Requests over core NATS, many at a time: how a command that came elsewhere reaches the replica that holds its device.
//!
//! 1. `send` puts a request in line; one task publishes them in that order, each with a reply subject that ends in its
//!    number. Nobody waits for an answer before the next request leaves.
//! 2. One subscription takes all answers; `poll_answer` hands them out. The server's "no responders" is an answer as well.
//!
//! A request leaves only while the server is there: what waited beyond its deadline is never sent, so that a device does
//! not get a command whose caller was told that its time is over.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::{Client, Message, PublishErrorKind, StatusCode};
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::queue::nats::connection::{self, Access, Capacity, ConnectionRole, IfRefused, LinkState, Listener};
use crate::queue::nats::local_queue::LocalQueue;
use crate::queue::nats::{NatsSettings, headers};
use crate::replica::{ForeignOutcome, HandOver, HandOverAnswer, HandOverRequest, HandOverSettings};

/// Operations that may wait for the connection's task beside one for each request.
const OPERATIONS_SPARE: usize = 64;

/// After the server was lost, the other replicas need up to two seconds to be back, and their interests with them.
const GRACE: Duration = Duration::from_millis(2500);

/// One thread's requests. Never cloned: one task asks for the answers.
#[derive(Debug)]
struct NatsRequests {
    shared: Rc<Shared>,
    supervisor: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    requests: LocalQueue<HandOverRequest>,
    answers: LocalQueue<(u64, HandOverAnswer)>,
    is_open: Cell<bool>,
}

impl HandOverSettings for NatsSettings {
    fn check(&self) -> Result<(), String> {
        NatsSettings::check(self).map_err(|error| error.to_string())
    }

    /// # Panics
    /// Outside a `LocalSet`.
    fn start(&self, waiting_max: usize) -> Result<Rc<dyn HandOver>, String> {
        let access = Access::new(self).map_err(|error| error.to_string())?;
        let shared = Rc::new(Shared::default());
        let capacity = Capacity { operations: waiting_max + OPERATIONS_SPARE, subscription: waiting_max };
        let supervising = supervise(Rc::clone(&shared), access, capacity);
        let supervisor = tokio::task::spawn_local(supervising);
        Ok(Rc::new(NatsRequests { shared, supervisor }))
    }
}

impl HandOver for NatsRequests {
    fn is_open(&self) -> bool {
        self.shared.is_open.get()
    }

    fn send(&self, request: HandOverRequest) {
        self.shared.requests.push(request);
    }

    fn poll_answer(&self, cx: &mut Context<'_>) -> Poll<(u64, HandOverAnswer)> {
        self.shared.answers.poll_pop(cx)
    }
}

impl Drop for NatsRequests {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

async fn supervise(shared: Rc<Shared>, access: Access, capacity: Capacity) {
    let commands = format!("{}.command", access.settings.prefix);
    let Some(connection) = connection::connect(access, ConnectionRole::HandOver, capacity).await else { return };
    let inbox = connection.client.new_inbox();
    let Some(answers) = connection.control.listen(format!("{inbox}.*"), IfRefused::Leave).await else { return };
    let mut tasks = JoinSet::new();
    let (client, link) = (connection.client.clone(), connection.link.clone());
    tasks.spawn_local(publish(Rc::clone(&shared), client, link, inbox, commands));
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

async fn publish(
    shared: Rc<Shared>,
    client: Client,
    mut link: watch::Receiver<LinkState>,
    inbox: String,
    commands: String,
) {
    loop {
        let request = poll_fn(|cx| shared.requests.poll_pop(cx)).await;
        if connection::connected(&mut link).await.is_none() {
            return;
        }
        if Instant::now() > request.deadline {
            continue;
        }
        let headers = headers::of_command(&request.headers);
        let subject = format!("{commands}.{}", request.address);
        let reply = format!("{inbox}.{}", request.number);
        let sent = client.publish_with_reply_and_headers(subject, reply, headers, request.payload).await;
        match sent {
            Ok(()) => {}
            Err(error) if error.kind() == PublishErrorKind::Send => return,
            Err(error) => shared.answers.push((request.number, HandOverAnswer::NotSent(error.to_string()))),
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

fn answer(message: Message) -> HandOverAnswer {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return HandOverAnswer::NoResponders;
    }
    let headers = message.headers.as_ref();
    HandOverAnswer::Outcome(ForeignOutcome {
        content_type: headers::text(headers, "content-type"),
        traceparent: headers::text(headers, "traceparent"),
        attributes: headers::attributes(headers),
        failure: headers::failure(headers),
        payload: message.payload,
    })
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;
    use bytes::Bytes;

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
        let HandOverAnswer::Outcome(outcome) = answer(message.clone()) else { panic!("an outcome") };
        assert_eq!(outcome.content_type.as_deref(), Some("application/json"));
        assert_eq!(outcome.attributes, [("subject".to_owned(), "温 \"".to_owned())]);
        assert_eq!(outcome.failure, Some(("TIME_OUT".to_owned(), "no reply in time".to_owned())));
        message.status = Some(StatusCode::NO_RESPONDERS);
        assert_eq!(answer(message), HandOverAnswer::NoResponders);
    }
}
