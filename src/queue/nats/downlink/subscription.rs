//! A subscription that can be ended without losing what is on its way.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

/// Number of messages after which the client would forget a subscription: none ever gets so many. nats-server reads at most nine
/// digits of it and takes a longer number for none, so it ends the subscription at once. One that read it would go on until
/// [`Subscription::forget`], and what it sends meanwhile is answered.
const NEVER: u64 = 10_000_000_000;

/// A subscription, shared by the interest that may end it and the stream of its messages.
#[derive(Debug, Clone)]
pub(super) struct Subscription {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    subscriber: Subscriber,
    /// Counts the subscriptions that are ending, this one among them from [`Subscription::end`] on.
    ending: Option<Arc<AtomicUsize>>,
    is_given_up: bool,
    waker: Option<Waker>,
}

impl Subscription {
    /// A running subscription.
    pub(super) fn new(subscriber: Subscriber) -> Self {
        let inner = Inner { subscriber, ending: None, is_given_up: false, waker: None };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Notes that it ends; `ending` counts it until the last message was taken.
    pub(super) fn end(&self, ending: &Arc<AtomicUsize>) {
        let counted = self.inner().ending.replace(Arc::clone(ending));
        if counted.is_none() {
            ending.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Asks the server to end it: operations after this one reach the server after it. What the server has sent before still
    /// comes, as the client keeps the subscription; with [`Subscriber::unsubscribe`] or [`Subscriber::drain`] it would
    /// forget it at once and drop that. False: the client's line is full.
    pub(super) fn unsubscribe(&self, cx: &mut Context<'_>) -> bool {
        let inner = &mut *self.inner();
        // An error means that the client has ended.
        pin!(inner.subscriber.unsubscribe_after(NEVER)).poll(cx).is_ready()
    }

    /// Lets the client forget it: the server has ended it, so nothing is on its way. What has come is still taken. False: the
    /// client's line is full.
    pub(super) fn forget(&self, cx: &mut Context<'_>) -> bool {
        let inner = &mut *self.inner();
        // An error means that the client has ended.
        pin!(inner.subscriber.drain()).poll(cx).is_ready()
    }

    /// Ends it at once, with the loss of what is on its way: the server is away.
    pub(super) fn give_up(&self) {
        let waker = {
            let inner = &mut *self.inner();
            inner.is_given_up = true;
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(ending) = &self.ending {
            ending.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The messages of a subscription, with the subject that it stands for.
#[derive(Debug)]
pub(super) struct Incoming {
    /// The subject that was subscribed.
    pub(super) subject: Bytes,
    /// Where they come from.
    pub(super) subscription: Subscription,
}

impl Stream for Incoming {
    type Item = (Bytes, Message);

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let inner = &mut *self.subscription.inner();
        if inner.is_given_up {
            return Poll::Ready(None);
        }
        inner.waker = Some(cx.waker().clone());
        let message = ready!(inner.subscriber.poll_next_unpin(cx));
        Poll::Ready(message.map(|message| (self.subject.clone(), message)))
    }
}
