//! Interests of sessions, and the proof that the server has them.

use std::collections::{HashSet, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::Instant;

use super::interests::Answer;
use super::{Request, Shared};
use crate::protocol::downlink::DownlinkEvent;
use crate::queue::nats::connection::{self, Client, DirectClient, LinkState, Listener};
use crate::queue::nats::local_queue::LocalQueue;

/// An interest that the server has not confirmed by then is taken for granted: CONNECT must not wait for a server that
/// does not answer.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(2);

/// Subscriptions that were refused are asked for again this much later, on the same connection.
const RETRY: Duration = Duration::from_secs(2);

/// Subscriptions that are asked for again one by one. Where more were refused, all are asked for once these are taken: the
/// client tells of at most 128 refusals at once, and not of the others.
const REFUSED_MAX: usize = 100;

/// All are asked for this often while some stay refused: others may be allowed by then.
const RETRY_ALL: Duration = Duration::from_secs(30);

/// Pause between two batches of interests, each of which costs a write to the server and a read of its barrier. A session waits
/// for the rest of the pause, and one that begins after it does not.
const BATCH_PAUSE: Duration = Duration::from_millis(5);

/// Subscribes, and tells sessions when the server has their interest.
pub(super) struct Registrar {
    shared: Rc<Shared>,
    client: DirectClient,
    link: tokio::sync::watch::Receiver<LinkState>,
    seen: LinkState,
    echo: String,
    barriers: Listener<DirectClient>,
    sent: u64,
    /// When requests are served again.
    next_batch_at: Instant,
    waiting: VecDeque<Unconfirmed>,
    /// How many subscriptions the server has ended once the barrier of that number comes back.
    ending: VecDeque<(u64, usize)>,
    /// Not subscribed because the server was away.
    deferred: Vec<Bytes>,
    refused: Refused,
}

/// Subscriptions that the server has refused, or taken away when its configuration changed. It says so once and never
/// gives them back by itself.
#[derive(Debug, Default)]
struct Refused {
    subjects: HashSet<Bytes>,
    /// When they are asked for again, or it is looked whether they were taken.
    retry_at: Option<Instant>,
    /// Since when more were refused than these, and all have to be asked for.
    more_since: Option<Instant>,
    /// Whether they were asked for again and none was refused since.
    is_taken: bool,
}

impl Refused {
    fn add(&mut self, subject: Bytes) {
        self.is_taken = false;
        self.retry_at.get_or_insert_with(|| Instant::now() + RETRY);
        if self.subjects.len() < REFUSED_MAX {
            self.subjects.insert(subject);
        } else if !self.subjects.contains(&subject) {
            self.more_since.get_or_insert_with(Instant::now);
        }
    }

    /// Takes what is to be asked for now; `None` means all.
    fn take(&mut self) -> Option<HashSet<Bytes>> {
        let subjects = std::mem::take(&mut self.subjects);
        self.retry_at = None;
        let Some(since) = self.more_since else { return Some(subjects) };
        if self.is_taken || since.elapsed() >= RETRY_ALL {
            self.more_since = None;
            return None;
        }
        self.is_taken = true;
        self.retry_at = Some(Instant::now() + RETRY);
        Some(subjects)
    }
}

/// Interests before one barrier.
struct Unconfirmed {
    barrier: u64,
    deadline: Instant,
    subjects: Vec<Bytes>,
    /// Greatest number of the barriers that the worker waits for.
    worker_barrier: Option<u64>,
}

impl Registrar {
    /// `barriers` is the subscription of `echo`.
    pub(super) fn new(
        shared: Rc<Shared>,
        client: DirectClient,
        link: watch::Receiver<LinkState>,
        echo: String,
        barriers: Listener<DirectClient>,
    ) -> Self {
        Self {
            shared,
            client,
            link,
            seen: LinkState::default(),
            echo,
            barriers,
            sent: 0,
            next_batch_at: Instant::now(),
            waiting: VecDeque::new(),
            ending: VecDeque::new(),
            deferred: Vec::new(),
            refused: Refused::default(),
        }
    }

    /// Ends when the worker does not take events any more.
    pub(super) async fn run(mut self) {
        // The first connection takes milliseconds; devices that come meanwhile are worth the proof.
        let _ = tokio::time::timeout(BARRIER_TIMEOUT, connection::connected(&mut self.link)).await;
        self.seen = *self.link.borrow_and_update();
        loop {
            let deadline = self.waiting.front().map(|unconfirmed| unconfirmed.deadline);
            let go_on = tokio::select! {
                changed = self.link.changed() => changed.is_ok() && self.follow_link().await,
                Some(message) = self.barriers.next() => {
                    hear_refusals().await;
                    self.confirm_until(connection::echo_number(&message)).await
                }
                () = until(deadline) => self.give_up_waiting("the server is slow").await,
                () = until(self.refused.retry_at) => {
                    self.retry_refused();
                    true
                }
                request = next_request(&self.shared.requests, self.next_batch_at) => self.serve(request).await,
            };
            if !go_on {
                return;
            }
        }
    }

    async fn follow_link(&mut self) -> bool {
        let now = *self.link.borrow_and_update();
        let was_lost = !now.connected || now.connects != self.seen.connects;
        self.seen = now;
        if now.connected {
            for subject in self.deferred.drain(..) {
                self.shared.requests.push(Request::Subscribe(subject));
            }
        }
        if !was_lost {
            return true;
        }
        // Nothing comes on the lost connection any more.
        self.forget_until(u64::MAX);
        // Barriers and subscriptions on the lost connection prove nothing; the client repeats the subscriptions.
        self.give_up_waiting("the server is away").await
    }

    /// Serves this request and all others that are there, behind one barrier.
    async fn serve(&mut self, first: Request) -> bool {
        let mut subjects = Vec::new();
        let mut unproved = Vec::new();
        let mut ended = 0;
        let mut worker_barrier: Option<u64> = None;
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Tell(session) => {
                    if self.shared.events.send(DownlinkEvent::Attached(session)).await.is_err() {
                        return false;
                    }
                }
                Request::Barrier(number) => worker_barrier = worker_barrier.max(Some(number)),
                Request::Unsubscribe(subscription) => {
                    self.client.unsubscribe_for_owner(subscription);
                    if self.client.is_connected() {
                        ended += 1;
                    } else {
                        self.shared.forget(1);
                    }
                }
                Request::Again(subject) => self.refused.add(subject),
                Request::Subscribe(subject) => {
                    if self.shared.interests.borrow().needs_subscription(&subject) {
                        if self.subscribe(&subject) {
                            subjects.push(subject);
                        } else {
                            self.deferred.push(subject.clone());
                            unproved.push(subject);
                        }
                    }
                }
            }
            next = self.shared.requests.pop();
        }
        if !unproved.is_empty() && !self.tell_unproved(unproved, "the server is away").await {
            return false;
        }
        let is_awaited = !subjects.is_empty() || worker_barrier.is_some();
        if !is_awaited && ended == 0 {
            return true;
        }
        self.sent += 1;
        self.next_batch_at = Instant::now() + BATCH_PAUSE;
        if is_awaited {
            let deadline = Instant::now() + BARRIER_TIMEOUT;
            self.waiting.push_back(Unconfirmed { barrier: self.sent, deadline, subjects, worker_barrier });
        }
        if ended > 0 {
            self.ending.push_back((self.sent, ended));
        }
        let barrier = Bytes::copy_from_slice(&self.sent.to_be_bytes());
        // Where the connection is lost, the turn of `run` that follows sees it and lets the sessions in.
        let _lost = self.client.publish(self.echo.clone(), None, barrier).await;
        true
    }

    /// Asks again for what was refused.
    fn retry_refused(&mut self) {
        let all = || self.shared.interests.borrow().subjects().cloned().collect();
        for subject in self.refused.take().unwrap_or_else(all) {
            let refused = self.shared.interests.borrow_mut().renew(&subject);
            if let Some(subscription) = refused {
                self.shared.end(vec![subscription]);
                self.shared.requests.push(Request::Subscribe(subject));
            }
        }
    }

    /// Writes the subscription; a barrier that is written now comes after it. False while the server is away.
    fn subscribe(&mut self, subject: &Bytes) -> bool {
        if !self.client.is_connected() {
            return false;
        }
        let subscription = self.client.subscribe_for_owner(subject.clone());
        let unwanted = self.shared.interests.borrow_mut().subscribed(subject, subscription);
        self.shared.end(unwanted.into_iter().collect());
        true
    }

    /// Notes that nothing comes any more on subscriptions that ended before that barrier.
    fn forget_until(&mut self, barrier: u64) {
        while let Some((_, ended)) = self.ending.pop_front_if(|(number, _)| *number <= barrier) {
            self.shared.forget(ended);
        }
    }

    async fn confirm_until(&mut self, barrier: u64) -> bool {
        self.forget_until(barrier);
        while self.waiting.front().is_some_and(|unconfirmed| unconfirmed.barrier <= barrier) {
            let Some(unconfirmed) = self.waiting.pop_front() else { break };
            let (proved, refused) = self.divide(unconfirmed.subjects);
            let is_told = self.tell(proved).await
                && (refused.is_empty() || self.tell_unproved(refused, "the server refuses them").await);
            if !is_told {
                return false;
            }
            self.end_worker_barrier(unconfirmed.worker_barrier);
        }
        true
    }

    /// Divides subjects whose barrier came back into those that the server has taken and those that it has refused.
    fn divide(&self, subjects: Vec<Bytes>) -> (Vec<Bytes>, Vec<Bytes>) {
        let (mut proved, mut refused) = (Vec::new(), Vec::new());
        {
            let mut interests = self.shared.interests.borrow_mut();
            for subject in subjects {
                match interests.answer_to(&subject) {
                    Answer::Taken => proved.push(subject),
                    Answer::Refused => refused.push(subject),
                    Answer::RefusedAgain => {}
                }
            }
            // The client tells of at most 128 refusals at once: of the others of this batch nothing is known.
            if refused.len() >= REFUSED_MAX {
                refused.append(&mut proved);
            }
        }
        self.shared.tell_refused();
        (proved, refused)
    }

    async fn give_up_waiting(&mut self, cause: &'static str) -> bool {
        while let Some(unconfirmed) = self.waiting.pop_front() {
            self.ask_again_later(&unconfirmed.subjects);
            if !self.tell_unproved(unconfirmed.subjects, cause).await {
                return false;
            }
            self.end_worker_barrier(unconfirmed.worker_barrier);
        }
        true
    }

    /// Nobody knows whether the server has taken these of them that it had refused before.
    fn ask_again_later(&mut self, subjects: &[Bytes]) {
        let interests = self.shared.interests.borrow();
        for subject in subjects.iter().filter(|subject| interests.is_asked_again(subject)) {
            self.refused.add(subject.clone());
        }
    }

    fn end_worker_barrier(&self, worker_barrier: Option<u64>) {
        if let Some(number) = worker_barrier {
            // Commands that came before the barrier may still wait.
            self.shared.backlog.push_barrier(number);
        }
    }

    async fn tell_unproved(&self, subjects: Vec<Bytes>, cause: &'static str) -> bool {
        tracing::debug!(cause, sessions = subjects.len(), "interests are not confirmed");
        let sessions = u64::try_from(subjects.len()).unwrap_or(u64::MAX);
        self.shared.stats.unconfirmed_interests.fetch_add(sessions, Ordering::Relaxed);
        self.tell(subjects).await
    }

    async fn tell(&self, subjects: Vec<Bytes>) -> bool {
        for subject in subjects {
            let session = self.shared.interests.borrow_mut().confirm(&subject);
            if let Some(session) = session
                && self.shared.events.send(DownlinkEvent::Attached(session)).await.is_err()
            {
                return false;
            }
        }
        true
    }
}

/// Lets the task run that watches the link: the server has told of a refusal before the barrier came back, and the refusal comes
/// by way of that task.
async fn hear_refusals() {
    tokio::task::yield_now().await;
}

/// Waits until `at`, and then for a request. Safe to drop.
async fn next_request(requests: &LocalQueue<Request>, at: Instant) -> Request {
    // Also a sleep that is over waits for the next turn of the timer.
    if Instant::now() < at {
        tokio::time::sleep_until(at).await;
    }
    poll_fn(|cx| requests.poll_pop(cx)).await
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(refused: &mut Refused, count: usize) {
        (0..count).for_each(|number| refused.add(Bytes::from(format!("jetlinks.command.product1.device{number}.>"))));
    }

    #[test]
    fn what_was_refused_is_asked_for_alone_and_all_as_soon_as_it_is_taken_where_more_was_refused() {
        let mut refused = Refused::default();
        let asked = |refused: &mut Refused| refused.take().map(|subjects| subjects.len());
        refuse(&mut refused, REFUSED_MAX);
        assert_eq!((asked(&mut refused), refused.retry_at), (Some(REFUSED_MAX), None));
        refuse(&mut refused, REFUSED_MAX + 1);
        for _attempt in 0..3 {
            assert!(refused.retry_at.is_some());
            assert_eq!(asked(&mut refused), Some(REFUSED_MAX));
            refuse(&mut refused, REFUSED_MAX);
        }
        assert_eq!(asked(&mut refused), Some(REFUSED_MAX));
        assert!(refused.retry_at.is_some(), "it is looked whether they were taken");
        assert_eq!((asked(&mut refused), refused.retry_at), (None, None));
        refuse(&mut refused, 1);
        assert_eq!(asked(&mut refused), Some(1));
    }
}
