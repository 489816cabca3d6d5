//! Records to JetStream: core publishes whose acknowledgements one subscription gathers.
//!
//! 1. `publish` puts the record in a local line and wakes the writer.
//! 2. The writer hands it to the connection with a reply subject that holds the token.
//! 3. The gatherer takes all acknowledgements that are there and posts them to the inbox at once.
//! 4. When the connection is lost, a publish refused, or acknowledgements stay out, the line is emptied and the queue is
//!    away; once JetStream answers for the stream again, the inbox starts a new epoch and sessions send
//!    their windows once more.
//!
//! What a lost connection leaves behind: the client drops its write buffers, but up to [`OPERATIONS`] publishes that
//! wait for its task survive and are sent first after the reconnect. They are older than everything of the epoch that
//! follows and come in their order, so the last copies of a session's records stay in order.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use async_nats::{Client, Message, ServerAddr, Subject, Subscriber};
use futures_util::StreamExt;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::acknowledgement::{Acknowledgement, StreamIdentity};
use super::connection::{self, Capacity, Connection, Link};
use super::outstanding::{Loss, Outstanding};
use super::reply_subject::{self, ReplySubjects};
use super::stats::count;
use super::stream::{self, StreamInfo};
use super::{NatsError, NatsSettings, NatsStats, headers};
use crate::protocol::uplink::{Availability, Handover, Inbox, Receipt, Record, Token, Uplink};
use crate::queue::{Backoff, Throttle};

/// Records that may wait for the writer. They are shared with the sessions that hold them until their receipt, so one
/// costs about 150 bytes here, 150 MiB in all at worst.
const LINE_MAX: usize = 1 << 20;

/// Operations that wait for the connection's task: two of its write buffers at the usual size of an envelope.
const OPERATIONS: usize = 256;

/// Acknowledgements that may wait for the gatherer: as many as records can be under way.
const ACKNOWLEDGEMENTS: usize = 1 << 20;

/// How often lost records are looked for.
const GLANCE: Duration = Duration::from_millis(500);

/// One worker's way to JetStream.
#[derive(Debug)]
pub struct NatsUplink {
    shared: Rc<Shared>,
    supervisor: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    line: RefCell<Line>,
    outstanding: RefCell<Outstanding>,
    /// Whose acknowledgements count; `STREAM.INFO` tells the domain.
    identity: RefCell<StreamIdentity>,
    stored_in_this_life: Cell<bool>,
    trouble: Cell<Option<Trouble>>,
    troubled: Notify,
    max_payload: Cell<Option<usize>>,
    inbox: Arc<Inbox>,
    stats: Arc<NatsStats>,
    complaints: RefCell<Throttle>,
}

#[derive(Debug, Default)]
struct Line {
    open: bool,
    overflowed: bool,
    records: VecDeque<(Token, Record)>,
    writer: Option<Waker>,
}

/// Why the current life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Disconnected,
    Refused,
    Stalled,
    AcknowledgementsLost,
    /// The line was full and has room again: sessions must send what was refused.
    Overflowed,
}

impl NatsUplink {
    /// Starts on the calling thread, inside a `LocalSet`; a server that is away is waited for.
    ///
    /// # Errors
    /// [`NatsError`] when the settings cannot be used.
    ///
    /// # Panics
    /// Outside a `LocalSet`.
    pub fn start(settings: &NatsSettings, inbox: Arc<Inbox>, stats: Arc<NatsStats>) -> Result<Self, NatsError> {
        let (servers, options) = connection::options(settings)?;
        // Subjects are made of percent-encoded tokens, which need no second look.
        let options = options.skip_subject_validation(true);
        let shared = Rc::new(Shared {
            line: RefCell::default(),
            outstanding: RefCell::new(Outstanding::new(Instant::now())),
            identity: RefCell::new(StreamIdentity::new(&settings.stream, None)),
            stored_in_this_life: Cell::new(false),
            trouble: Cell::new(None),
            troubled: Notify::new(),
            max_payload: Cell::new(None),
            inbox,
            stats,
            complaints: RefCell::new(Throttle::new(Duration::from_secs(10))),
        });
        let supervisor = tokio::task::spawn_local(supervise(Rc::clone(&shared), settings.clone(), servers, options));
        Ok(Self { shared, supervisor })
    }

    /// Largest message that the server takes, headers included, in bytes; `None` until it was reached.
    pub fn max_payload(&self) -> Option<usize> {
        self.shared.max_payload.get()
    }
}

impl Drop for NatsUplink {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

impl Uplink for NatsUplink {
    fn publish(&mut self, token: Token, record: &Record) -> Handover {
        let mut line = self.shared.line.borrow_mut();
        if !line.open || line.records.len() >= LINE_MAX {
            line.overflowed |= line.open;
            count(&self.shared.stats.refused);
            return Handover::Refused;
        }
        line.records.push_back((token, record.clone()));
        let writer = line.writer.take();
        drop(line);
        if let Some(writer) = writer {
            writer.wake();
        }
        Handover::Taken
    }

    fn flush(&mut self) {
        // The writer was woken by the first record of the tick and runs when the tick has ended.
    }
}

impl Shared {
    fn end_life(&self, trouble: Trouble) {
        if self.trouble.get().is_none() {
            self.trouble.set(Some(trouble));
            self.troubled.notify_one();
        }
    }

    fn open(&self) {
        self.outstanding.borrow_mut().restart(Instant::now());
        self.stored_in_this_life.set(false);
        self.trouble.set(None);
        self.line.borrow_mut().open = true;
    }

    fn close(&self) {
        let mut line = self.line.borrow_mut();
        line.open = false;
        line.overflowed = false;
        // Not `clear`, which would keep the memory of the longest line there ever was.
        line.records = VecDeque::new();
    }

    /// Takes the next record, or leaves the waker for when there is one.
    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<(Token, Record)> {
        let mut line = self.line.borrow_mut();
        let Some(next) = line.records.pop_front() else {
            line.writer = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let has_room_again = line.overflowed && line.records.len() < LINE_MAX / 2;
        drop(line);
        if has_room_again {
            self.end_life(Trouble::Overflowed);
        }
        Poll::Ready(next)
    }

    fn complain(&self, complaint: &'static str, cause: &str) {
        if let Some(suppressed) = self.complaints.borrow_mut().pass(Instant::now()) {
            tracing::error!(cause, suppressed, "{complaint}");
        }
    }
}

async fn supervise(
    shared: Rc<Shared>,
    settings: NatsSettings,
    servers: Vec<ServerAddr>,
    options: async_nats::ConnectOptions,
) {
    let capacity = Capacity { operations: OPERATIONS, subscription: ACKNOWLEDGEMENTS };
    let Some(connection) = connection::connect(servers, options, capacity, "uplink").await else {
        return;
    };
    let inbox = connection.client.new_inbox();
    let acknowledgements = match connection.client.subscribe(format!("{inbox}.*")).await {
        Ok(subscriber) => subscriber,
        Err(error) => {
            tracing::error!(%error, "the NATS client refused its inbox");
            return;
        }
    };
    // Tasks of their own, so that neither spends the other's share of the scheduler; they end with this one.
    let mut tasks = JoinSet::new();
    tasks.spawn_local(write(Rc::clone(&shared), connection.client.clone(), ReplySubjects::new(&inbox)));
    tasks.spawn_local(gather(Rc::clone(&shared), acknowledgements));
    live(&shared, &settings, &connection).await;
}

/// Waits for the stream, opens the line, waits for trouble, closes it, over and over.
async fn live(shared: &Shared, settings: &NatsSettings, connection: &Connection) {
    let mut link = connection.link.clone();
    let mut backoff = Backoff::new();
    loop {
        let Some(seen) = connection::connected(&mut link).await else { return };
        shared.max_payload.set(Some(connection.client.max_payload()));
        let Some(info) = prepare(settings, &connection.client, &mut link, seen, &mut backoff).await else {
            continue;
        };
        shared.identity.replace(StreamIdentity::new(&settings.stream, info.domain.as_deref()));
        // Acknowledgements that are already here spare their records a second sending.
        tokio::task::yield_now().await;
        shared.open();
        shared.inbox.report(Availability::Ok);
        let mut trouble = watch_for_trouble(shared, &mut link, seen).await;
        while trouble == Trouble::Overflowed {
            shared.close();
            shared.open();
            shared.inbox.report(Availability::Ok);
            trouble = watch_for_trouble(shared, &mut link, seen).await;
        }
        shared.close();
        count(&shared.stats.outages);
        shared.inbox.report(Availability::Away);
        tracing::debug!(?trouble, "the uplink is away");
        if shared.stored_in_this_life.get() || trouble == Trouble::Disconnected {
            backoff.reset();
        }
        // A stream that refuses what it just promised to take must not make every session send in a tight loop.
        if trouble != Trouble::Disconnected {
            tokio::time::sleep(backoff.pause()).await;
        }
    }
}

/// Asks for the stream until it is ready; `None` when the connection was lost meanwhile.
async fn prepare(
    settings: &NatsSettings,
    client: &Client,
    link: &mut watch::Receiver<Link>,
    seen: Link,
    backoff: &mut Backoff,
) -> Option<StreamInfo> {
    let mut last = None;
    loop {
        let trouble = tokio::select! {
            biased;
            () = connection::lost(link, seen) => return None,
            prepared = stream::prepare(client, settings) => match prepared {
                Ok(info) => return Some(info),
                Err(trouble) => trouble,
            },
        };
        if last.as_ref() != Some(&trouble) {
            let name = settings.stream.as_str();
            if trouble.needs_a_human() {
                tracing::error!(stream = name, cause = %trouble, "the stream cannot be used");
            } else {
                tracing::warn!(stream = name, cause = %trouble, "waiting for the stream");
            }
            last = Some(trouble);
        }
        tokio::select! {
            biased;
            () = connection::lost(link, seen) => return None,
            () = tokio::time::sleep(backoff.pause()) => {}
        }
    }
}

async fn watch_for_trouble(shared: &Shared, link: &mut watch::Receiver<Link>, seen: Link) -> Trouble {
    loop {
        tokio::select! {
            biased;
            () = connection::lost(link, seen) => return Trouble::Disconnected,
            () = shared.troubled.notified() => {}
            () = tokio::time::sleep(GLANCE) => {}
        }
        if let Some(trouble) = shared.trouble.take() {
            return trouble;
        }
        let dropped = link.borrow().dropped - seen.dropped;
        if dropped > 0 {
            shared.stats.acknowledgements_dropped.fetch_add(dropped, Ordering::Relaxed);
            return Trouble::AcknowledgementsLost;
        }
        let loss = shared.outstanding.borrow_mut().look(Instant::now());
        match loss {
            Some(Loss::Stalled) => {
                count(&shared.stats.stalls);
                tracing::warn!("JetStream acknowledged nothing for five seconds");
                return Trouble::Stalled;
            }
            Some(Loss::Skipped) => {
                tracing::warn!("JetStream acknowledged later records and not earlier ones");
                return Trouble::AcknowledgementsLost;
            }
            None => {}
        }
    }
}

async fn write(shared: Rc<Shared>, client: Client, mut replies: ReplySubjects) {
    let structured = headers::structured();
    loop {
        let (token, record) = poll_fn(|cx| shared.poll_next(cx)).await;
        let Ok(subject) = Subject::try_from(record.address) else {
            refuse(&shared, token, "a subject is not UTF-8");
            continue;
        };
        let lap = shared.outstanding.borrow_mut().send();
        let reply = replies.subject(token, lap);
        let headers =
            if record.attributes.is_empty() { structured.clone() } else { headers::binary(&record.attributes) };
        let headers = headers::traced(headers, record.trace);
        match client.publish_with_reply_and_headers(subject, reply, headers, record.payload).await {
            Ok(()) => count(&shared.stats.published),
            Err(error) if error.kind() == async_nats::PublishErrorKind::Send => return,
            Err(error) => {
                shared.outstanding.borrow_mut().acknowledge(lap);
                refuse(&shared, token, &error.to_string());
            }
        }
    }
}

/// A record that no attempt will get through: its connection alone suffers, by its deadline.
fn refuse(shared: &Shared, token: Token, cause: &str) {
    count(&shared.stats.failed);
    shared.complain("a record cannot be stored as it is", cause);
    shared.inbox.post_one(Receipt::Failed(token));
}

async fn gather(shared: Rc<Shared>, mut acknowledgements: Subscriber) {
    let mut receipts = Vec::new();
    loop {
        let ended = poll_fn(|cx| {
            loop {
                match acknowledgements.poll_next_unpin(cx) {
                    Poll::Ready(Some(message)) => receipts.extend(receipt(&shared, &message)),
                    Poll::Ready(None) => return Poll::Ready(true),
                    Poll::Pending if receipts.is_empty() => return Poll::Pending,
                    Poll::Pending => return Poll::Ready(false),
                }
            }
        })
        .await;
        shared.outstanding.borrow_mut().note_progress(Instant::now());
        shared.inbox.post(&mut receipts);
        if ended {
            return;
        }
    }
}

fn receipt(shared: &Shared, message: &Message) -> Option<Receipt> {
    let (token, lap) = reply_subject::decode(&message.subject)?;
    let acknowledgement = match shared.identity.borrow().read(message) {
        Ok(acknowledgement) => acknowledgement,
        Err(answerer) => {
            if shared.stats.note_foreign(&answerer.to_string()) {
                tracing::warn!(
                    %answerer,
                    "somebody else answers records: only the stream of the configuration acknowledges them"
                );
            }
            return None;
        }
    };
    let is_of_this_life = shared.outstanding.borrow_mut().acknowledge(lap);
    match acknowledgement {
        Acknowledgement::Stored => {
            shared.stored_in_this_life.set(true);
            count(&shared.stats.stored);
            return Some(Receipt::Stored(token));
        }
        Acknowledgement::Unstorable(cause) => shared.complain("a record cannot be stored as it is", &cause),
        Acknowledgement::Refused(cause) => {
            shared.complain("the stream refuses records", &cause);
            if is_of_this_life {
                shared.end_life(Trouble::Refused);
            }
        }
    }
    count(&shared.stats.failed);
    Some(Receipt::Failed(token))
}
