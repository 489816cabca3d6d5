//! Commands from core NATS, and their outcomes to the reply subjects.
//!
//! 1. `attach` notes the subject of a device; the registrar subscribes all that are noted and publishes one barrier to
//!    an echo of its own behind them. A server handles what a connection sends in order, so when the barrier comes
//!    back the interests before it are in place. (The client's `flush` only empties its socket buffer: no proof.)
//! 2. What comes on the subscriptions goes to the [`Backlog`], which bounds it. The deliverer turns each message into an
//!    event, as fast as the worker takes them and outcomes leave: the worker refuses what is too much, and so nobody waits
//!    in vain.
//! 3. `answer` puts the outcome in line; the answerer publishes it. In a flood the client writes nothing until it has read
//!    everything, so it is the backlog that grows, of which an entry is smaller than an outcome.
//!
//! While the server is away nothing is proved: sessions are let in at once, and the client sends their subscriptions
//! when it is back. What the server refuses is not proved either, although the barrier behind it comes back.

mod backlog;
mod interests;
mod registrar;
mod subscription;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, PublishErrorKind, ServerAddr, Subject};
use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet, unconstrained};
use tokio::time::Instant;

use self::backlog::{Backlog, Next, Waiting};
use self::interests::Interests;
use self::registrar::Registrar;
use self::subscription::{Incoming, Subscription};
use super::connection::{self, Capacity, ConnectionRole, Control, IfRefused, Violation};
use super::local_queue::LocalQueue;
use super::stats::count;
use super::stream::{Api, ForeignStreams};
use super::{NatsError, NatsSettings, NatsStats, headers};
use crate::protocol::address;
use crate::protocol::command::{Command, with_fields_of_raw, with_headers};
use crate::protocol::downlink::{Code, Downlink, DownlinkEvent, Outcome, Recipient, Ticket};
use crate::protocol::id::{DeviceId, ProductId};
use crate::protocol::uplink::{Availability, DeliveryId};
use crate::queue::Slots;

/// Operations that wait for the connection's task.
const OPERATIONS: usize = 2048;

/// Commands that wait in one subscription: without bound, as the backlog takes them out after every turn of the client.
/// It reserves room for 32 (6 KiB) per subscription and takes more only when they come.
const WAITING_PER_DEVICE: usize = Semaphore::MAX_PERMITS;

/// Bytes that the client reads at once; larger messages make it take more. It reads 128 times in a turn at most (the
/// budget of the runtime), so a turn brings a megabyte of small commands.
const READ_BYTES: u16 = 8 * 1024;

/// Longest reply subject, in bytes: a command that waits keeps it. Inboxes of clients have 50 to 100.
const REPLY_BYTES_MAX: usize = 256;

/// Outcomes that wait for the client before no more commands are taken.
const ANSWERS_BACKLOG: usize = 4096;

/// Outcomes that wait for the server; one more is dropped.
const ANSWERS_MAX: usize = 65_536;

/// Bytes of outcomes that wait for the server; of one more only the failure is kept, for the headers.
const ANSWERS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of outcomes that the client may hold before it has to get rid of them: it counts operations alone.
const UNFLUSHED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A subscription that was refused counts as missing for at least so long, also when its session has ended: longer than
/// until another one is refused.
const REFUSED: Duration = Duration::from_secs(5);

/// One worker's way to the commands.
#[derive(Debug)]
pub struct NatsDownlink {
    shared: Rc<Shared>,
    supervisor: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    /// `jetlinks.command.`
    prefix: String,
    /// `jetlinks.`
    own: String,
    interests: RefCell<Interests>,
    /// Reply subjects of callers that wait for an outcome, by ticket. A ticket is good for one outcome.
    callers: RefCell<Slots<Subject>>,
    requests: LocalQueue<Request>,
    /// To the task that takes commands in. Bounded by the interests of the worker.
    subscriptions: mpsc::UnboundedSender<Incoming>,
    backlog: Arc<Backlog>,
    answers: LocalQueue<(Subject, Outcome)>,
    answers_bytes: Cell<usize>,
    /// Subscriptions that are ending: something may still come on them.
    ending: Arc<AtomicUsize>,
    availability: Cell<Availability>,
    /// Until when the server is not known to have all subscriptions again after it refused one.
    refused_until: Cell<Option<Instant>>,
    /// Refused interests as the counters of all workers hold them of this one.
    refused_told: Cell<usize>,
    events: mpsc::Sender<DownlinkEvent>,
    stats: Arc<NatsStats>,
}

/// A request to the registrar.
#[derive(Debug)]
enum Request {
    Subscribe(Bytes),
    /// Nobody wants it any more, or it is to be subscribed anew.
    Unsubscribe(Subscription),
    /// The server has refused this subscription, or taken it away.
    Again(Bytes),
    /// The interest is in place already; its session only waits to hear so.
    Tell(DeliveryId),
    /// The worker wants to know when all commands until now are here.
    Barrier(u64),
}

impl NatsDownlink {
    /// Starts on the calling thread, inside a `LocalSet`; events go to `events`, whose bound is the worker's. A server
    /// that is away is waited for.
    ///
    /// # Errors
    /// [`NatsError`] when the settings cannot be used.
    ///
    /// # Panics
    /// Outside a `LocalSet`.
    pub fn start(
        settings: &NatsSettings,
        events: mpsc::Sender<DownlinkEvent>,
        stats: Arc<NatsStats>,
    ) -> Result<Self, NatsError> {
        let (servers, options) = connection::options(settings)?;
        let (subscriptions, incoming) = mpsc::unbounded_channel();
        let shared = Rc::new(Shared {
            prefix: format!("{}.command.", settings.prefix),
            own: format!("{}.", settings.prefix),
            interests: RefCell::default(),
            callers: RefCell::default(),
            requests: LocalQueue::default(),
            subscriptions,
            backlog: Arc::new(Backlog::new(Arc::clone(&stats))),
            answers: LocalQueue::default(),
            answers_bytes: Cell::new(0),
            ending: Arc::default(),
            availability: Cell::new(Availability::Starting),
            refused_until: Cell::new(None),
            refused_told: Cell::new(0),
            events,
            stats,
        });
        let supervising = supervise(Rc::clone(&shared), settings.clone(), servers, options, incoming);
        let supervisor = tokio::task::spawn_local(supervising);
        Ok(Self { shared, supervisor })
    }
}

impl Drop for NatsDownlink {
    fn drop(&mut self) {
        self.supervisor.abort();
        self.shared.count_refused(0);
    }
}

impl Downlink for NatsDownlink {
    fn attach(&mut self, token: DeliveryId, addresses: &[(ProductId, DeviceId)]) {
        let prefix = &self.shared.prefix;
        let subject = |(product, device): &(ProductId, DeviceId)| {
            Bytes::from(format!("{prefix}{}.{}.>", address::token(product.as_str()), address::token(device.as_str())))
        };
        let subjects = addresses.iter().map(subject).collect();
        let declared = self.shared.interests.borrow_mut().declare(token, subjects);
        for subject in declared.missing {
            self.shared.requests.push(Request::Subscribe(subject));
        }
        if declared.is_in_place {
            self.shared.requests.push(Request::Tell(token));
        }
    }

    fn send_barrier(&mut self, number: u64) -> bool {
        self.shared.requests.push(Request::Barrier(number));
        true
    }

    fn reassert(&mut self, token: DeliveryId) {
        let (ended, subjects) = self.shared.interests.borrow_mut().reassert(token);
        self.shared.end(ended);
        for subject in subjects {
            self.shared.requests.push(Request::Subscribe(subject));
        }
    }

    fn detach(&mut self, token: DeliveryId) {
        let ended = self.shared.interests.borrow_mut().withdraw(token);
        self.shared.end(ended);
        self.shared.tell_refused();
    }

    fn is_settled(&self) -> bool {
        let shared = &self.shared;
        shared.ending.load(Ordering::Relaxed) == 0 && shared.backlog.is_empty() && shared.answers.len() == 0
    }

    fn availability(&self) -> Availability {
        let was_refused_lately = || self.shared.refused_until.get().is_some_and(|until| Instant::now() < until);
        if self.shared.interests.borrow().refused() > 0 || was_refused_lately() {
            return Availability::Away;
        }
        self.shared.availability.get()
    }

    fn held_bytes(&self, ticket: Ticket) -> usize {
        let callers = self.shared.callers.borrow();
        callers.get(ticket.0).map_or(0, |reply| Slots::<Subject>::SLOT_BYTES + reply.len())
    }

    fn answer(&mut self, ticket: Ticket, outcome: Outcome) {
        let Some(reply) = self.shared.callers.borrow_mut().remove(ticket.0) else { return };
        if self.shared.answers.len() >= ANSWERS_MAX {
            count(&self.shared.stats.answers_dropped);
            return;
        }
        self.shared.push_answer(reply, outcome);
    }
}

impl Shared {
    /// Puts an outcome in line; where that holds too much already without its envelope, which leaves it to the headers.
    fn push_answer(&self, reply: Subject, outcome: Outcome) {
        let bytes = self.answers_bytes.get();
        let outcome = match outcome {
            outcome if bytes.saturating_add(outcome.payload.len()) <= ANSWERS_BYTES_MAX => outcome,
            outcome => {
                let too_much = || (Code::SystemError, "too many outcomes wait for NATS".to_owned());
                let failure = Some(outcome.failure.unwrap_or_else(too_much));
                Outcome { payload: Bytes::new(), attributes: Vec::new(), failure, ..outcome }
            }
        };
        self.answers_bytes.set(bytes + outcome.payload.len());
        self.answers.push((reply, outcome));
    }

    /// Notes that the server has refused a subscription, or taken it away.
    fn refuse(&self, subject: String) {
        self.refused_until.set(Some(Instant::now() + REFUSED));
        self.interests.borrow_mut().refuse(subject.as_bytes());
        self.tell_refused();
        self.requests.push(Request::Again(subject.into()));
    }

    /// Tells the counters how many interests are refused at this moment.
    fn tell_refused(&self) {
        self.count_refused(self.interests.borrow().refused());
    }

    fn count_refused(&self, refused: usize) {
        let told = self.refused_told.replace(refused);
        if refused != told {
            // Modulo 2^64, as other workers add to it and take away from it, too.
            self.stats.refused_interests.fetch_add((refused as u64).wrapping_sub(told as u64), Ordering::Relaxed);
        }
    }

    /// Ends subscriptions. What the server sends until it knows still reaches the worker, which answers it.
    fn end(&self, subscriptions: Vec<Subscription>) {
        for subscription in subscriptions {
            subscription.end(&self.ending);
            self.requests.push(Request::Unsubscribe(subscription));
        }
    }
}

async fn supervise(
    shared: Rc<Shared>,
    settings: NatsSettings,
    servers: Vec<ServerAddr>,
    options: ConnectOptions,
    incoming: mpsc::UnboundedReceiver<Incoming>,
) {
    let options = options.read_buffer_capacity(READ_BYTES);
    let capacity = Capacity { operations: OPERATIONS, subscription: WAITING_PER_DEVICE };
    let foreign = ForeignStreams::over_commands(&settings, Arc::clone(&shared.stats));
    let (refused, judging) = (Rc::clone(&shared), Rc::clone(&foreign));
    let attend = move |violation| {
        if judging.was_refused(&violation) {
            return;
        }
        // The registrar asks again for subscriptions on this same connection: a new one would lose commands of everybody.
        if let Violation::Subscription(subject) = violation {
            refused.refuse(subject);
        }
    };
    let Some(connection) =
        connection::connect_attended(servers, options, capacity, ConnectionRole::Commands, &settings, attend).await
    else {
        return;
    };
    let client = connection.client.clone();
    let echo = connection::echo_subject(&client, shared.own.trim_end_matches('.'));
    let Some(barriers) = connection.control.listen(echo.clone(), IfRefused::Stay).await else { return };
    let Some(api) = Api::start(&connection).await.map(Rc::new) else { return };
    let mut tasks = JoinSet::new();
    let registrar = Registrar::new(Rc::clone(&shared), client.clone(), connection.link.clone(), echo, barriers);
    tasks.spawn_local(registrar.run());
    // The client's task takes in whatever has arrived, in one turn. Those that have to keep up with it stop where the
    // next one's room ends, not at the runtime's budget of 128 messages a turn.
    tasks.spawn(unconstrained(backlog::take_in(Arc::clone(&shared.backlog), incoming)));
    tasks.spawn_local(unconstrained(deliver(Rc::clone(&shared))));
    tasks.spawn_local(unconstrained(answer(Rc::clone(&shared), client.clone(), Rc::clone(&connection.control))));
    tasks.spawn_local(foreign.watch(api, connection.link.clone()));
    let mut link = connection.link.clone();
    loop {
        let now = *link.borrow_and_update();
        shared.availability.set(match (now.connected, now.connects) {
            (true, _) => Availability::Ok,
            (false, 0) => Availability::Starting,
            (false, _) => Availability::Away,
        });
        if link.changed().await.is_err() {
            return;
        }
    }
}

/// Turns what waits into events.
async fn deliver(shared: Rc<Shared>) {
    loop {
        // A refusal is an outcome too: what cannot be answered yet must wait.
        poll_fn(|cx| shared.answers.poll_room(ANSWERS_BACKLOG, cx)).await;
        let event = match poll_fn(|cx| shared.backlog.poll_pop(cx)).await {
            Next::Command(command) => event(&shared, command),
            Next::Barrier(number) => Some(DownlinkEvent::BarrierReached(number)),
            Next::Lost(count) => Some(DownlinkEvent::Lost(count)),
        };
        let Some(event) = event else { continue };
        let is_command = matches!(event, DownlinkEvent::Command { .. });
        if shared.events.send(event).await.is_err() {
            return;
        }
        if is_command {
            count(&shared.stats.commands);
        }
    }
}

fn event(shared: &Shared, waiting: Waiting) -> Option<DownlinkEvent> {
    let session = shared.interests.borrow().session(&waiting.interest);
    if let Some(reply) = &waiting.reply
        && is_forbidden_reply(&shared.own, reply)
    {
        count(&shared.stats.reply_subjects_refused);
        tracing::debug!(subject = %waiting.subject, "a command asks to be answered where the bridge itself listens");
        return Some(DownlinkEvent::ReplySubjectRefused);
    }
    let address = waiting.subject.strip_prefix(shared.prefix.as_str())?;
    let header = |name: &str| waiting.header(name);
    let command = Command::from_subject(address, &waiting.payload);
    let mut command = with_headers(with_fields_of_raw(command, header), header);
    let Waiting { reply, .. } = waiting;
    if reply.as_ref().is_some_and(|reply| reply.len() > REPLY_BYTES_MAX) {
        let text = format!("the reply subject has more than {REPLY_BYTES_MAX} bytes");
        command = command.and_then(|command| Err(command.refused(text)));
    }
    let ticket = reply.map(|reply| Ticket(shared.callers.borrow_mut().insert(reply)));
    let to = session.map_or(Recipient::Ended, Recipient::Session);
    Some(DownlinkEvent::Command { to, ticket, command })
}

/// An outcome there would come back as a command or as a device's message, or reach the server itself.
fn is_forbidden_reply(own: &str, reply: &str) -> bool {
    reply.starts_with('$') || reply.starts_with(own) || own.strip_suffix('.') == Some(reply)
}

/// Publishes outcomes; those that wait when the server goes away are sent when it is back, as the callers' inboxes
/// come back too.
async fn answer(shared: Rc<Shared>, client: Client, control: Rc<Control>) {
    let mut unflushed = 0;
    loop {
        let (reply, outcome) = poll_fn(|cx| shared.answers.poll_pop(cx)).await;
        let bytes = outcome.payload.len();
        shared.answers_bytes.set(shared.answers_bytes.get() - bytes);
        unflushed += bytes;
        if unflushed > UNFLUSHED_BYTES_MAX {
            // An error means that the client has ended, as the next publish finds out.
            let _ended = client.flush().await;
            unflushed = bytes;
        }
        let headers = match &outcome.failure {
            Some((code, text)) if outcome.payload.is_empty() => headers::bare_failure(outcome.trace, *code, text),
            _ => headers::outcome(&outcome),
        };
        match client.publish_with_headers(reply.clone(), headers, outcome.payload).await {
            Ok(()) => count(&shared.stats.answers),
            Err(error) if error.kind() == PublishErrorKind::Send => return,
            Err(error) => {
                if error.kind() == PublishErrorKind::MaxPayloadExceeded {
                    control.doubt_limits();
                }
                // The caller must not wait for an outcome that cannot come; it gets the failure alone.
                tracing::error!(device = outcome.device, %error, "an outcome cannot be sent");
                let text = format!("the outcome cannot be sent: {error}");
                let headers = headers::bare_failure(outcome.trace, Code::SystemError, &text);
                if client.publish_with_headers(reply, headers, Bytes::new()).await.is_err() {
                    count(&shared.stats.answers_dropped);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_subject_of_the_bridge_or_the_server_is_forbidden() {
        for (reply, expected) in [
            ("_INBOX.a.b", false),
            ("jetlinks2.x", false),
            ("jetlinks", true),
            ("jetlinks.command.product1.device1.disconnect", true),
            ("jetlinks.device.product1.device1.event.e", true),
            ("$JS.API.STREAM.DELETE.JETLINKS_DEVICE", true),
            ("$SYS.REQ", true),
        ] {
            assert_eq!(is_forbidden_reply("jetlinks.", reply), expected, "{reply}");
        }
    }
}
