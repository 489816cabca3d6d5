//! Requests of operators that reach every replica: one subject that all publish and subscribe, and that no stream stores.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use futures_util::StreamExt;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::queue::nats::NatsError;
use crate::queue::nats::connection::{Connection, IfRefused, LinkState, Listener};
use crate::replica::claim::{ClaimError, ClaimSecrets};
use crate::replica::request::{
    Answer, Answers, Asked, Body, Exchange, FOLLOWED_BYTES_MAX, FOLLOWED_EVERY, FOLLOWED_PER_BATCH, Follow,
    FollowedLines, LEASE, Message, Reaction, Request, Respond, is_named,
};

/// How long the answers to one request are waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a replica says that it is there.
const HERE: Duration = Duration::from_secs(5);

/// How often it is looked whether the replica is ending or sheds, which it says at once.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Answers to one request that wait to be gathered; more are dropped.
const ANSWERS: usize = 1_024;

/// Bytes of the largest message that are left to the server for the subject.
const SPARE_BYTES: usize = 4 * 1024;

/// The tasks of this file share it. Messages are signed and read with the secrets.
struct Shared {
    client: Client,
    link: watch::Receiver<LinkState>,
    subject: String,
    inbox: String,
    secrets: Option<ClaimSecrets>,
    replica_id: String,
    respond: Arc<dyn Respond>,
    exchange: RefCell<Exchange>,
    /// Requests of this replica that wait for answers, by id.
    waiting: RefCell<HashMap<String, mpsc::Sender<(String, Answer)>>>,
    /// Followers of other replicas, by id.
    followed: RefCell<HashMap<String, Rc<Lease>>>,
    ignored: Box<dyn Fn(ClaimError)>,
}

/// The right of another replica to lines of this one.
struct Lease {
    end: Cell<Instant>,
    /// Subject of the lines.
    reply: RefCell<String>,
}

/// Starts the exchange on that connection, inside a `LocalSet`.
///
/// # Errors
/// [`NatsError::NoServer`] when the client has ended.
pub(super) async fn start(
    connection: &Connection,
    (subject, secrets): (String, Option<ClaimSecrets>),
    replica_id: &str,
    mut asked: mpsc::Receiver<Asked>,
    respond: Arc<dyn Respond>,
    ignored: impl Fn(ClaimError) + 'static,
) -> Result<(), NatsError> {
    let client = connection.client.clone();
    let inbox = client.new_inbox();
    // Claims go on without them, where the permissions do not name the subject yet.
    let listen = |subject| connection.control.listen(subject, IfRefused::Stay);
    let requests = listen(subject.clone()).await.ok_or(NatsError::NoServer)?;
    let answers = listen(format!("{inbox}.*")).await.ok_or(NatsError::NoServer)?;
    let shared = Rc::new(Shared {
        client,
        link: connection.link.clone(),
        subject,
        inbox,
        secrets,
        replica_id: replica_id.to_owned(),
        respond,
        exchange: RefCell::new(Exchange::new(replica_id)),
        waiting: RefCell::default(),
        followed: RefCell::default(),
        ignored: Box::new(ignored),
    });
    spawn_local(Rc::clone(&shared).take(requests));
    spawn_local(Rc::clone(&shared).take(answers));
    spawn_local(Rc::clone(&shared).say_here());
    spawn_local(async move {
        while let Some(asked) = asked.recv().await {
            spawn_local(Rc::clone(&shared).ask(asked));
        }
    });
    Ok(())
}

impl Shared {
    /// Says that the replica is there: when it connects, every few seconds, and when it begins to end or to shed, or has shed
    /// enough. Tells it whether others shed.
    async fn say_here(self: Rc<Self>) {
        let mut checks = interval(CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut said, mut told, mut connects) = (Instant::now(), (false, false), 0);
        loop {
            checks.tick().await;
            let link = *self.link.borrow();
            let now_us = self.respond.clocks().1;
            self.respond.note_others(self.exchange.borrow_mut().members.shed(now_us));
            let state = (self.respond.is_draining(), self.respond.sheds());
            let is_due = said.elapsed() >= HERE || link.connects != connects || state != told;
            if link.connected && is_due {
                (said, told, connects) = (Instant::now(), state, link.connects);
                self.publish(Body::Here, None).await;
            }
        }
    }

    async fn take(self: Rc<Self>, mut messages: Listener) {
        while let Some(received) = messages.next().await {
            // A consumer of a stream delivers to any subject, whoever made it; a message keeps the one under which it was
            // stored.
            let subject = received.subject.as_str();
            let is_said_here = subject == self.subject || subject.starts_with(&self.inbox);
            let decoded = if is_said_here {
                Message::decode(&received.payload, self.secrets.as_ref())
            } else {
                Err(ClaimError::Malformed)
            };
            let message = match decoded {
                Ok(message) => message,
                Err(error) => {
                    (self.ignored)(error);
                    continue;
                }
            };
            let (time_us, now_us) = self.respond.clocks();
            let reaction = self.exchange.borrow_mut().handle(message, time_us, now_us);
            match reaction {
                None => {}
                Some(Reaction::SayHere) => {
                    self.publish(Body::Here, None).await;
                }
                Some(Reaction::Respond(id, request)) => {
                    let Some(reply) = received.reply else { continue };
                    let answer = match &request {
                        Request::Follow(follow) => Answer::Follows(Rc::clone(&self).follow(follow, &reply)),
                        Request::StopFollowing(id) => {
                            self.followed.borrow_mut().remove(id);
                            Answer::Follows(false)
                        }
                        request => self.respond.respond(request),
                    };
                    self.publish(Body::Answer { id, answer }, Some(reply.to_string())).await;
                }
                Some(Reaction::HandOut(id, replica, answer)) => {
                    if let Some(sender) = self.waiting.borrow().get(&id) {
                        // Nobody waits any more, or more answer than there are replicas.
                        let _late = sender.try_send((replica, answer));
                    }
                }
                Some(Reaction::Show(id, replica, number, batch)) => {
                    self.respond.take_lines(&id, &replica, number, batch);
                }
            }
        }
    }

    /// Lets another replica follow, or go on; whether it may.
    fn follow(self: Rc<Self>, follow: &Follow, reply: &str) -> bool {
        let end = Instant::now() + LEASE;
        if let Some(lease) = self.followed.borrow().get(&follow.id) {
            lease.end.set(end);
            reply.clone_into(&mut lease.reply.borrow_mut());
            return true;
        }
        let Some(lines) = self.respond.follow(&follow.filter) else { return false };
        let lease = Rc::new(Lease { end: Cell::new(end), reply: RefCell::new(reply.to_owned()) });
        self.followed.borrow_mut().insert(follow.id.clone(), Rc::clone(&lease));
        tracing::info!(filter = ?follow.filter, "another replica follows what happens here");
        spawn_local(self.tell(follow.id.clone(), lease, lines));
        true
    }

    /// Tells another replica what it follows, until its lease is over or it stops.
    async fn tell(self: Rc<Self>, id: String, lease: Rc<Lease>, lines: Box<dyn FollowedLines>) {
        self.tell_while_wanted(&id, &lease, lines).await;
        tracing::info!("another replica follows no more what happened here");
    }

    async fn tell_while_wanted(&self, id: &str, lease: &Rc<Lease>, mut lines: Box<dyn FollowedLines>) {
        let mut batches = interval(FOLLOWED_EVERY);
        batches.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // By the clock, so that it goes on where an earlier lease of the same follower has ended.
        let mut number = self.respond.clocks().0;
        loop {
            batches.tick().await;
            let is_wanted = self.followed.borrow().get(id).is_some_and(|own| Rc::ptr_eq(own, lease));
            if !is_wanted {
                return;
            }
            if Instant::now() >= lease.end.get() {
                self.followed.borrow_mut().remove(id);
                return;
            }
            // Escapes make two bytes of one at most: a line is JSON already.
            let room = self.client.max_payload().saturating_sub(SPARE_BYTES) / 2;
            let batch = lines.take(FOLLOWED_PER_BATCH, room.min(FOLLOWED_BYTES_MAX));
            if !batch.is_empty() {
                number += 1;
                let reply = lease.reply.borrow().clone();
                self.publish(Body::Lines { id: id.to_owned(), number, batch }, Some(reply)).await;
            }
        }
    }

    /// Asks, and waits until every replica that is known and meant has answered, or for a while.
    async fn ask(self: Rc<Self>, asked: Asked) {
        let Asked { to, request, answered } = asked;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let (_, now_us) = self.respond.clocks();
        let members = self.exchange.borrow_mut().members.live(now_us);
        let is_meant = |id: &String| to.is_empty() || to.iter().any(|name| is_named(id, name));
        let mut missing: Vec<String> = members.into_iter().filter(is_meant).collect();
        let inbox = self.client.new_inbox();
        let id = inbox.rsplit('.').next().unwrap_or(&inbox).to_owned();
        let (sender, mut receiver) = mpsc::channel(ANSWERS);
        self.waiting.borrow_mut().insert(id.clone(), sender);
        let reply = format!("{}.{id}", self.inbox);
        self.publish(Body::Ask { id: id.clone(), to, request }, Some(reply)).await;
        let mut by_replica: Vec<(String, Answer)> = Vec::new();
        while !missing.is_empty() && self.link.borrow().connected {
            let Ok(Some((replica, answer))) = timeout_at(deadline, receiver.recv()).await else { break };
            missing.retain(|id| *id != replica);
            if by_replica.iter().all(|(known, _)| *known != replica) {
                by_replica.push((replica, answer));
            }
        }
        self.waiting.borrow_mut().remove(&id);
        // Whoever asked may have given up.
        let _gone = answered.send(Answers { by_replica, missing });
    }

    /// Publishes a message; an answer goes to `reply`, anything else to all.
    async fn publish(&self, mut body: Body, reply: Option<String>) {
        if !self.link.borrow().connected {
            return;
        }
        let is_answer = matches!(body, Body::Answer { .. } | Body::Lines { .. });
        let text = loop {
            let (said, draining, sheds) = (self.respond.clocks().0, self.respond.is_draining(), self.respond.sheds());
            let message = Message { replica: self.replica_id.clone(), said, draining, sheds, body };
            let text = message.encode(self.secrets.as_ref());
            body = message.body;
            if text.len() + SPARE_BYTES <= self.client.max_payload() || !body.halve() {
                break text;
            }
        };
        // An error means that the client has ended.
        let _ended = match reply {
            Some(reply) if is_answer => self.client.publish(reply, text.into()).await,
            Some(reply) => self.client.publish_with_reply(self.subject.clone(), reply, text.into()).await,
            None => self.client.publish(self.subject.clone(), text.into()).await,
        };
    }
}
