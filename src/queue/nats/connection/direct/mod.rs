//! A client whose owner writes messages straight into the buffer of the socket, and reads what comes for them where it lies
//! in the buffer of the socket. Everything is on one thread, and nothing is left of a connection that was lost: no message
//! waits anywhere but in the buffer.
//!
//! Beside its owner's messages it carries the few subscriptions that a connection needs for itself, in the manner of every
//! [`Client`].

mod connector;
mod driver;
mod outgoing;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use async_nats::{Message, ServerInfo, StatusCode, Subject};
use bytes::Bytes;
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use self::outgoing::Outgoing;
use super::client::Client;
use crate::queue::nats::local_queue::LocalQueue;
use crate::queue::nats::wire::{Delivery, format};

pub(super) use self::connector::Connector;
pub(super) use self::driver::drive;

/// Messages that may wait in a subscription that is not the owner's; one more is dropped. Some 200 bytes each and their
/// payload: what is subscribed are the connection's own echo and answers.
const WAITING_MAX: usize = 1 << 16;

/// A socket, with TLS or without.
trait Socket: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket for S {}

/// The owner of a direct connection.
pub(crate) trait Traffic: 'static {
    /// Takes a message on a subject below [`DirectClient::traffic_inbox`], or on a subscription that was made with
    /// [`DirectClient::subscribe_for_owner`], received at that time.
    fn take(&self, message: &Delivery<'_>, now: Instant);

    /// Everything that has arrived was taken.
    fn taken_all(&self, now: Instant);

    /// There is room in the buffer: writes what waits, as long as there is.
    fn write(&self);

    /// The connection is lost, with all that the buffer held.
    fn lost(&self);
}

/// A client on the thread that made it; clones are the same client.
#[derive(Clone)]
pub(crate) struct DirectClient {
    shared: Rc<Shared>,
}

struct Shared {
    inbox_prefix: String,
    /// Its messages go to the owner.
    traffic_inbox: String,
    is_connected: Cell<bool>,
    connects: Cell<u64>,
    received_bytes: Cell<u64>,
    max_payload: Cell<usize>,
    domain: RefCell<Option<String>>,
    servers: Cell<usize>,
    outgoing: RefCell<Outgoing>,
    subscriptions: RefCell<BTreeMap<u64, Entry>>,
    /// Subscriptions of the owner have even numbers, others have odd ones.
    last_sids: [Cell<u64>; 2],
    /// Those who wait until the socket has taken everything.
    flushes: RefCell<Vec<oneshot::Sender<()>>>,
    is_leaving: Cell<bool>,
    driver: RefCell<Option<Waker>>,
}

struct Entry {
    subject: Bytes,
    /// None of the owner's subscription.
    waiting: Option<Rc<LocalQueue<Message>>>,
}

impl DirectClient {
    /// A client that [`drive`] connects. Its inboxes begin with that prefix, without a trailing dot.
    pub(super) fn new(inbox_prefix: &str) -> Self {
        let shared = Shared {
            inbox_prefix: inbox_prefix.to_owned(),
            traffic_inbox: inbox(inbox_prefix),
            is_connected: Cell::new(false),
            connects: Cell::new(0),
            received_bytes: Cell::new(0),
            max_payload: Cell::new(0),
            domain: RefCell::default(),
            servers: Cell::new(0),
            outgoing: RefCell::default(),
            subscriptions: RefCell::default(),
            last_sids: [Cell::new(0), Cell::new(1)],
            flushes: RefCell::default(),
            is_leaving: Cell::new(false),
            driver: RefCell::default(),
        };
        Self { shared: Rc::new(shared) }
    }

    /// The subject, without a trailing dot, below which messages go to the owner. A subscription of it and `.*` makes them
    /// come, and yields none itself.
    pub(crate) fn traffic_inbox(&self) -> &str {
        &self.shared.traffic_inbox
    }

    /// Whether the owner may write: the server is there, and the buffer is not full.
    pub(crate) fn has_room(&self) -> bool {
        self.shared.is_connected.get() && self.shared.outgoing.borrow().has_room()
    }

    /// Writes behind what is in the buffer, which goes to the socket when the thread's other work of this turn is done.
    /// Whatever is written without [`DirectClient::has_room`] may be lost.
    pub(crate) fn write(&self, write: impl FnOnce(&mut Vec<u8>)) {
        write(self.shared.outgoing.borrow_mut().bytes());
        self.wake();
    }

    /// Whether the socket has taken everything that was written; what was written on a connection that is lost counts for
    /// nothing.
    pub(crate) fn is_written(&self) -> bool {
        self.shared.outgoing.borrow().is_empty()
    }

    /// Subscribes for the owner, on this connection and on all that follow. The number is that of its messages.
    pub(crate) fn subscribe_for_owner(&self, subject: Bytes) -> u64 {
        self.add(subject, None)
    }

    /// Ends a subscription of the owner: operations after this one reach the server after it. What the server has sent before
    /// still comes.
    pub(crate) fn unsubscribe_for_owner(&self, sid: u64) {
        self.end(sid);
    }

    fn add(&self, subject: Bytes, waiting: Option<Rc<LocalQueue<Message>>>) -> u64 {
        let last = &self.shared.last_sids[usize::from(waiting.is_some())];
        let sid = last.get() + 2;
        last.set(sid);
        if self.is_connected() {
            self.write(|out| format::subscribe(out, &subject, sid));
        }
        self.shared.subscriptions.borrow_mut().insert(sid, Entry { subject, waiting });
        sid
    }

    /// Lets the driver look what there is to do.
    pub(crate) fn wake(&self) {
        let driver = self.shared.driver.borrow_mut().take();
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Notes a connection that is there, and subscribes on it.
    fn connected(&self, info: ServerInfo, servers: usize) {
        let shared = &self.shared;
        shared.max_payload.set(info.max_payload);
        shared.domain.replace(info.domain);
        shared.servers.set(servers);
        let mut outgoing = shared.outgoing.borrow_mut();
        for (sid, entry) in shared.subscriptions.borrow().iter() {
            format::subscribe(outgoing.bytes(), &entry.subject, *sid);
        }
        shared.is_leaving.set(false);
        shared.connects.set(shared.connects.get() + 1);
        shared.is_connected.set(true);
    }

    /// Forgets what was on its way.
    fn lost(&self) {
        self.shared.is_connected.set(false);
        *self.shared.outgoing.borrow_mut() = Outgoing::default();
        // Whoever waits for one learns that it will not be.
        self.shared.flushes.borrow_mut().clear();
    }

    /// Hands a message to its subscription, if that has room and has not ended; whether it is the owner's instead.
    fn deliver(&self, message: &Delivery<'_>) -> bool {
        // Also of a subscription that has ended, on which some may still come.
        if message.sid.is_multiple_of(2) {
            return true;
        }
        let subscriptions = self.shared.subscriptions.borrow();
        let Some(waiting) = subscriptions.get(&message.sid).and_then(|entry| entry.waiting.as_ref()) else {
            return false;
        };
        if waiting.len() < WAITING_MAX
            && let Some(message) = owned(message)
        {
            waiting.push(message);
        }
        false
    }

    fn end(&self, sid: u64) {
        if self.shared.subscriptions.borrow_mut().remove(&sid).is_some() && self.shared.is_connected.get() {
            self.write(|out| format::unsubscribe(out, sid));
        }
    }
}

/// The message as async-nats has it; none whose subject is not UTF-8. Headers are not copied: of the connection's own
/// messages only their status is looked at.
fn owned(message: &Delivery<'_>) -> Option<Message> {
    Some(Message {
        subject: Subject::from(std::str::from_utf8(message.subject).ok()?),
        reply: None,
        payload: Bytes::copy_from_slice(message.payload),
        headers: None,
        status: message.status().and_then(|status| StatusCode::from_u16(status).ok()),
        description: None,
        length: message.subject.len() + message.headers.len() + message.payload.len(),
    })
}

/// A subject that nobody else has, and nobody guesses.
fn inbox(prefix: &str) -> String {
    // Without randomness an inbox is not secret, which costs what whoever may subscribe all inboxes can do anyway.
    let random =
        u128::from(getrandom::u64().unwrap_or_default()) << 64 | u128::from(getrandom::u64().unwrap_or_default());
    format!("{prefix}.{random:032x}")
}

impl Client for DirectClient {
    type Subscription = DirectSubscription;

    fn is_connected(&self) -> bool {
        self.shared.is_connected.get()
    }

    fn connects(&self) -> u64 {
        self.shared.connects.get()
    }

    fn received_bytes(&self) -> u64 {
        self.shared.received_bytes.get()
    }

    fn max_payload(&self) -> usize {
        self.shared.max_payload.get()
    }

    fn domain(&self) -> Option<String> {
        self.shared.domain.borrow().clone()
    }

    fn new_inbox(&self) -> String {
        inbox(&self.shared.inbox_prefix)
    }

    async fn publish(&self, subject: String, reply: Option<String>, payload: Bytes) -> Result<(), String> {
        if !self.is_connected() {
            return Err("there is no connection".to_owned());
        }
        let reply = reply.as_deref().map(str::as_bytes);
        self.write(|out| format::publish(out, subject.as_bytes(), reply, &payload));
        Ok(())
    }

    async fn subscribe(&self, subject: String) -> Option<DirectSubscription> {
        let waiting = Rc::new(LocalQueue::default());
        let is_of_owner = subject.strip_suffix(".*") == Some(self.traffic_inbox());
        let subject = Bytes::from(subject);
        let sid =
            if is_of_owner { self.subscribe_for_owner(subject) } else { self.add(subject, Some(Rc::clone(&waiting))) };
        Some(DirectSubscription { client: self.clone(), sid, waiting })
    }

    async fn flush(&self) -> bool {
        let (sender, flushed) = oneshot::channel();
        if self.is_connected() {
            self.shared.flushes.borrow_mut().push(sender);
            self.wake();
        } else {
            drop(sender);
        }
        flushed.await.is_ok()
    }

    async fn servers(&self) -> usize {
        self.shared.servers.get()
    }

    async fn reconnect(&self) -> bool {
        self.shared.is_leaving.set(true);
        self.wake();
        true
    }
}

/// A subscription; it ends when it is dropped.
pub(crate) struct DirectSubscription {
    client: DirectClient,
    sid: u64,
    waiting: Rc<LocalQueue<Message>>,
}

impl Stream for DirectSubscription {
    type Item = Message;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.waiting.poll_pop(cx).map(Some)
    }
}

impl Drop for DirectSubscription {
    fn drop(&mut self) {
        self.client.end(self.sid);
    }
}
