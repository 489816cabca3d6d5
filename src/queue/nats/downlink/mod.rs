//! Commands from core NATS, and their outcomes to the reply subjects.
//!
//! 1. `attach` notes the subject of a device; the registrar subscribes all that are noted and publishes one barrier to
//!    an echo of its own behind them. A server handles what a connection sends in order, so when the barrier comes
//!    back the interests before it are in place. (The client's `flush` only empties its socket buffer: no proof.)
//! 2. What comes on the subscriptions goes to the [`Backlog`], which bounds it. The deliverer turns each message into an
//!    event, as fast as the worker takes them and outcomes leave: the worker refuses what is too much, and so nobody waits
//!    in vain.
//! 3. `answer` puts the outcome in line; the connection writes it when there is room in its buffer. In a flood it is the
//!    backlog that grows, of which an entry is smaller than an outcome.
//!
//! While the server is away nothing is proved: sessions are let in at once, and the client sends their subscriptions
//! when it is back. What the server refuses is not proved either, although the barrier behind it comes back.

mod backlog;
mod interests;
mod registrar;

use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::Subject;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet, unconstrained};
use tokio::time::Instant;

use self::backlog::{Backlog, Next, ReceivedCommand};
use self::interests::Interests;
use self::registrar::Registrar;
use super::connection::{self, Access, Client, ConnectionRole, Control, DirectClient, IfRefused, Traffic, Violation};
use super::local_queue::LocalQueue;
use super::stream::{Api, ForeignStreams};
use super::wire::Delivery;
use super::wire::format::{self, Publish};
use super::{NatsError, NatsSettings, NatsStats, headers};
use crate::protocol::address;
use crate::protocol::command::{Command, with_fields_of_raw, with_headers};
use crate::protocol::downlink::{Code, Downlink, DownlinkEvent, Outcome, Recipient, Ticket};
use crate::protocol::id::{DeviceId, ProductId};
use crate::protocol::uplink::{Availability, SlotId};
use crate::queue::Slots;
use crate::queue::count;

/// Longest reply subject, in bytes: a command that waits keeps it. Inboxes of clients have 50 to 100.
const REPLY_BYTES_MAX: usize = 256;

/// Outcomes that wait for the connection before no more commands are taken.
const ANSWERS_BACKLOG: usize = 4096;

/// Outcomes that wait for the server; one more is dropped.
const ANSWERS_MAX: usize = 65_536;

/// Bytes of outcomes that wait for the server; of one more only the failure is kept, for the headers.
const ANSWERS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Least time for which a refused subscription counts as missing, also when its session has ended: longer than it takes until
/// another one is refused.
const REFUSED: Duration = Duration::from_secs(5);

/// One worker's way to the commands.
pub struct NatsDownlink {
    shared: Rc<Shared>,
    supervisor: JoinHandle<()>,
}

struct Shared {
    /// `jetlinks.command.`
    prefix: String,
    /// `jetlinks.`
    own: String,
    interests: RefCell<Interests>,
    /// Reply subjects of callers that wait for an outcome, by ticket. A ticket is good for one outcome.
    callers: RefCell<Slots<Subject>>,
    requests: LocalQueue<Request>,
    backlog: Backlog,
    answers: LocalQueue<(Subject, Outcome)>,
    answers_bytes: Cell<usize>,
    /// Subscriptions that are ending: something may still come on them.
    ending: Cell<usize>,
    outlet: OnceCell<Outlet>,
    availability: Cell<Availability>,
    /// The end of the time in which a refused subscription counts as missing.
    refused_until: Cell<Option<Instant>>,
    /// This worker's share of the refused interests in the counters of all workers.
    refused_told: Cell<usize>,
    events: mpsc::Sender<DownlinkEvent>,
    stats: Arc<NatsStats>,
    /// A buffer for the key of an interest, and for the headers of an outcome.
    scratch: RefCell<Vec<u8>>,
}

/// Where outcomes go.
struct Outlet {
    client: DirectClient,
    control: Rc<Control<DirectClient>>,
}

/// A request to the registrar.
#[derive(Debug)]
enum Request {
    Subscribe(Bytes),
    /// Nobody wants it any more, or it is to be subscribed anew.
    Unsubscribe(u64),
    /// The server has refused this subscription, or taken it away.
    Again(Bytes),
    /// The interest is in place already; its session only waits to hear so.
    Tell(SlotId),
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
        let access = Access::new(settings)?;
        let shared = Rc::new(Shared {
            prefix: format!("{}.command.", settings.prefix),
            own: format!("{}.", settings.prefix),
            interests: RefCell::default(),
            callers: RefCell::default(),
            requests: LocalQueue::default(),
            backlog: Backlog::new(Arc::clone(&stats)),
            answers: LocalQueue::default(),
            answers_bytes: Cell::new(0),
            ending: Cell::new(0),
            outlet: OnceCell::new(),
            availability: Cell::new(Availability::Starting),
            refused_until: Cell::new(None),
            refused_told: Cell::new(0),
            events,
            stats,
            scratch: RefCell::default(),
        });
        let supervisor = tokio::task::spawn_local(supervise(Rc::clone(&shared), access));
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
    fn attach(&mut self, session: SlotId, addresses: &[(ProductId, DeviceId)]) {
        let prefix = &self.shared.prefix;
        let subject = |(product, device): &(ProductId, DeviceId)| {
            Bytes::from(format!("{prefix}{}.{}.>", address::token(product.as_str()), address::token(device.as_str())))
        };
        let subjects = addresses.iter().map(subject).collect();
        let declared = self.shared.interests.borrow_mut().declare(session, subjects);
        for subject in declared.missing {
            self.shared.requests.push(Request::Subscribe(subject));
        }
        if declared.is_in_place {
            self.shared.requests.push(Request::Tell(session));
        }
    }

    fn send_barrier(&mut self, number: u64) -> bool {
        self.shared.requests.push(Request::Barrier(number));
        true
    }

    fn reassert(&mut self, session: SlotId) {
        let (ended, subjects) = self.shared.interests.borrow_mut().reassert(session);
        self.shared.end(ended);
        for subject in subjects {
            self.shared.requests.push(Request::Subscribe(subject));
        }
    }

    fn detach(&mut self, session: SlotId) {
        let ended = self.shared.interests.borrow_mut().withdraw(session);
        self.shared.end(ended);
        self.shared.tell_refused();
    }

    fn is_settled(&self) -> bool {
        let shared = &self.shared;
        shared.ending.get() == 0 && shared.backlog.is_empty() && shared.has_written()
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
        if let Some(outlet) = self.outlet.get() {
            outlet.client.wake();
        }
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
    fn end(&self, subscriptions: Vec<u64>) {
        for subscription in subscriptions {
            self.ending.set(self.ending.get() + 1);
            self.requests.push(Request::Unsubscribe(subscription));
        }
    }

    /// Notes that nothing comes any more on `ended` subscriptions.
    fn forget(&self, ended: usize) {
        self.ending.set(self.ending.get() - ended);
    }

    /// Whether no outcome waits that could be sent: while the server is away, none could.
    fn has_written(&self) -> bool {
        let Some(outlet) = self.outlet.get() else { return true };
        !outlet.client.is_connected() || self.answers.len() == 0 && outlet.client.is_written()
    }

    /// The session whose interest a subject belongs to: that of its first two tokens behind the prefix.
    fn session(&self, subject: &str) -> Option<SlotId> {
        let (product, rest) = subject.strip_prefix(self.prefix.as_str())?.split_once('.')?;
        let device = rest.split('.').next().unwrap_or(rest);
        let mut interest = self.scratch.borrow_mut();
        interest.clear();
        for part in [self.prefix.as_str(), product, ".", device, ".>"] {
            interest.extend_from_slice(part.as_bytes());
        }
        self.interests.borrow().session(&interest)
    }
}

impl Traffic for Shared {
    fn take(&self, message: &Delivery<'_>, _now: std::time::Instant) {
        if let Some(command) = ReceivedCommand::new(message) {
            self.backlog.push(command);
        }
    }

    fn taken_all(&self, _now: std::time::Instant) {}

    fn write(&self) {
        let Some(outlet) = self.outlet.get() else { return };
        while outlet.client.has_room() {
            let Some((reply, outcome)) = self.answers.pop() else { return };
            self.answers_bytes.set(self.answers_bytes.get() - outcome.payload.len());
            self.write_outcome(outlet, &reply, &outcome);
        }
    }

    fn lost(&self) {}
}

impl Shared {
    /// Writes an outcome; one that is larger than the server takes is a failure without an envelope.
    fn write_outcome(&self, outlet: &Outlet, reply: &Subject, outcome: &Outcome) {
        let mut headers = self.scratch.borrow_mut();
        headers.clear();
        match &outcome.failure {
            Some((code, text)) if outcome.payload.is_empty() => {
                headers::write_bare_failure(&mut headers, outcome.trace, *code, text);
            }
            _ => headers::write_outcome(&mut headers, outcome),
        }
        let mut payload = &outcome.payload[..];
        let (bytes, limit) = (headers.len() + payload.len(), outlet.client.max_payload());
        if bytes > limit {
            outlet.control.doubt_limits();
            tracing::error!(device = outcome.device, bytes, limit, "an outcome is larger than the NATS server takes");
            let text = format!("the outcome cannot be sent: {bytes} bytes, the server takes {limit} (max_payload)");
            headers.clear();
            headers::write_bare_failure(&mut headers, outcome.trace, Code::SystemError, &text);
            payload = &[];
        }
        let message = Publish { subject: reply.as_bytes(), reply: None, headers: &headers, payload };
        outlet.client.write(|out| format::publish_with_headers(out, &message));
        count(&self.stats.answers);
    }
}

async fn supervise(shared: Rc<Shared>, access: Access) {
    let foreign = ForeignStreams::over_commands(&access.settings, Arc::clone(&shared.stats));
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
    let traffic = Rc::clone(&shared);
    let connection = connection::connect_direct(access, ConnectionRole::Commands, traffic, attend);
    let client = connection.client.clone();
    let outlet = Outlet { client: client.clone(), control: Rc::clone(&connection.control) };
    // Set once, here.
    let _set = shared.outlet.set(outlet);
    let echo = connection::echo_subject(&client, shared.own.trim_end_matches('.'));
    let Some(barriers) = connection.control.listen(echo.clone(), IfRefused::Stay).await else { return };
    let Some(api) = Api::start(&connection).await.map(Rc::new) else { return };
    let mut tasks = JoinSet::new();
    let registrar = Registrar::new(Rc::clone(&shared), client, connection.link.clone(), echo, barriers);
    tasks.spawn_local(registrar.run());
    // It has to keep up with what the connection brings in one turn: it stops where the worker's room ends, not at the
    // runtime's budget of 128 messages a turn.
    tasks.spawn_local(unconstrained(deliver(Rc::clone(&shared))));
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

fn event(shared: &Shared, received: ReceivedCommand) -> Option<DownlinkEvent> {
    let session = shared.session(&received.subject);
    if let Some(reply) = &received.reply
        && is_forbidden_reply(&shared.own, reply)
    {
        count(&shared.stats.reply_subjects_refused);
        tracing::debug!(subject = %received.subject, "a command asks to be answered where the bridge itself listens");
        return Some(DownlinkEvent::ReplySubjectRefused);
    }
    let address = received.subject.strip_prefix(shared.prefix.as_str())?;
    let header = |name: &str| received.header(name);
    let command = Command::from_subject(address, &received.payload);
    let mut command = with_headers(with_fields_of_raw(command, header), header);
    let ReceivedCommand { reply, .. } = received;
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
