//! Subscriptions that the bridge keeps on a connection although the server takes the right to them away for a while.
//!
//! A server that has read other permissions drops every subscription that they do not allow, says so once for each, and
//! gives none back when the right is there again; it takes a new one then. So what was refused is asked for again, on the
//! same connection, until it is not refused any more. A server says nothing of a subscription that it takes: silence
//! stands for that.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use async_nats::Message;
use futures_util::{Stream, StreamExt};

use super::client::Client;

/// Least time between a refusal of a subscription and the next attempt. As this is checked once a second, some two seconds
/// pass between attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// A subscription that was asked for again and not refused within this time counts as taken.
const TAKEN_AFTER: Duration = Duration::from_secs(1);

/// Asking again must not wait longer than this for room in the client's line.
const ASKING: Duration = Duration::from_millis(500);

/// Whether a connection without one of its subscriptions is of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfRefused {
    /// It is left for another one when the right does not come back.
    Leave,
    /// It is of use without.
    Stay,
}

/// The lasting subscriptions of one connection: a handful, made when it begins.
pub(crate) struct LastingSubscriptions<C: Client> {
    all: RefCell<Vec<Rc<Slot<C>>>>,
    restored: Cell<u64>,
}

struct Slot<C: Client> {
    subject: String,
    if_refused: IfRefused,
    state: Cell<State>,
    /// Takes the place of the subscription that was refused.
    next: RefCell<Option<C::Subscription>>,
    reader: RefCell<Option<Waker>>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    InPlace,
    Refused(Instant),
    /// After a refusal, on this connection or by the server of the one before.
    Asked(Instant),
}

/// The messages of a lasting subscription; one task reads them.
pub(crate) struct Listener<C: Client = async_nats::Client> {
    subscriber: C::Subscription,
    slot: Rc<Slot<C>>,
}

impl<C: Client> Default for LastingSubscriptions<C> {
    fn default() -> Self {
        Self { all: RefCell::default(), restored: Cell::default() }
    }
}

impl<C: Client> LastingSubscriptions<C> {
    /// Subscribes. `None` when the client has ended.
    pub(crate) async fn listen(&self, client: &C, subject: String, if_refused: IfRefused) -> Option<Listener<C>> {
        let subscriber = client.subscribe(subject.clone()).await?;
        let (state, next, reader) = (Cell::new(State::InPlace), RefCell::default(), RefCell::default());
        let slot = Rc::new(Slot { subject, if_refused, state, next, reader });
        self.all.borrow_mut().push(Rc::clone(&slot));
        Some(Listener { subscriber, slot })
    }

    /// Notes a refusal; what to do about the connection, or `None` where the subject is none of these.
    pub(crate) fn refused(&self, subject: &str) -> Option<IfRefused> {
        let all = self.all.borrow();
        let slot = all.iter().find(|slot| slot.subject == subject)?;
        slot.state.set(State::Refused(Instant::now()));
        Some(slot.if_refused)
    }

    /// Notes that the client has made another connection, and asked for all of them there.
    pub(crate) fn connected(&self) {
        for slot in self.all.borrow().iter() {
            if !matches!(slot.state.get(), State::InPlace) {
                slot.state.set(State::Asked(Instant::now()));
            }
        }
    }

    /// Asks again for what was refused, when it is time to, on a connection that is there; the subjects that are taken
    /// again.
    pub(crate) async fn attend(&self, client: &C) -> Vec<String> {
        let mut restored = Vec::new();
        let all = self.all.borrow().clone();
        for slot in all {
            match slot.state.get() {
                State::Refused(since) if since.elapsed() >= PAUSE => slot.ask_again(client).await,
                State::Asked(since) if since.elapsed() >= TAKEN_AFTER => {
                    slot.state.set(State::InPlace);
                    self.restored.set(self.restored.get() + 1);
                    restored.push(slot.subject.clone());
                }
                State::InPlace | State::Refused(_) | State::Asked(_) => {}
            }
        }
        restored
    }

    /// Whether one is missing without which the connection is of no use.
    pub(crate) fn lacks_any(&self) -> bool {
        let lacks =
            |slot: &Rc<Slot<C>>| slot.if_refused == IfRefused::Leave && !matches!(slot.state.get(), State::InPlace);
        self.all.borrow().iter().any(lacks)
    }

    /// How often one was taken again.
    pub(crate) fn restored(&self) -> u64 {
        self.restored.get()
    }
}

impl<C: Client> Listener<C> {
    /// Whether the server refuses the subscription at present, wherever the listener has gone.
    pub(crate) fn refusal(&self) -> impl Fn() -> bool + use<C> {
        let slot = Rc::clone(&self.slot);
        move || matches!(slot.state.get(), State::Refused(_))
    }

    /// Goes on with the subscription that has taken the place of this one, if there is one.
    fn take_next(&mut self) -> bool {
        let next = self.slot.next.borrow_mut().take();
        next.map(|next| self.subscriber = next).is_some()
    }

    fn wait_for_next(&self, waker: &Waker) {
        let mut reader = self.slot.reader.borrow_mut();
        if !reader.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *reader = Some(waker.clone());
        }
    }
}

impl<C: Client> Slot<C> {
    async fn ask_again(&self, client: &C) {
        let Ok(Some(subscriber)) = tokio::time::timeout(ASKING, client.subscribe(self.subject.clone())).await else {
            return;
        };
        // A refusal may have come meanwhile, of the one before: this one is refused, too, if the right is not there.
        self.state.set(State::Asked(Instant::now()));
        self.next.replace(Some(subscriber));
        let reader = self.reader.borrow_mut().take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl<C: Client> Stream for Listener<C> {
    type Item = Message;

    // A message is large, and is not to be moved once more on its way.
    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let this = self.get_mut();
        loop {
            match this.subscriber.poll_next_unpin(cx) {
                Poll::Ready(Some(message)) => return Poll::Ready(Some(message)),
                // Everything that came on the former one is taken.
                Poll::Ready(None) if this.take_next() => {}
                Poll::Pending if this.take_next() => {}
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    this.wait_for_next(cx.waker());
                    return Poll::Pending;
                }
            }
        }
    }
}
