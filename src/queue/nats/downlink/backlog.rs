//! Commands that were taken out of their subscriptions and wait for the worker.
//!
//! The client has a channel for each subscription, drops what finds no room in it and tells of that once in a flood. So
//! those channels are not bounded, and `take_in` empties all of them after every turn of the client: it is a task of the
//! runtime as the client's is, and does not wait behind the connections of devices. What it brings here is bounded for
//! all workers of the replica together, and every command that finds no room is counted.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use async_nats::{HeaderMap, Message, Subject};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::SelectAll;
use tokio::sync::mpsc;

use super::subscription::Incoming;
use crate::protocol::command;
use crate::queue::nats::NatsStats;
use crate::queue::nats::stats::count;

/// Bytes of the commands that may wait in all workers: some 100,000 small ones. A command costs the client
/// and the backlog some 200 bytes beside its texts.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// Allocations of the client for one command, and what the protocol writes around it, in bytes.
const MESSAGE_BYTES: usize = 128;

/// Headers of a command that together have more bytes than this are long.
const LONG_HEADERS_BYTES: usize = 1024;

/// Bytes that are kept of a header at most. None that is longer can be used; what is kept says so.
const HEADER_BYTES_MAX: usize = 256;

/// A command as it came, without what the client tells beside.
#[derive(Debug)]
pub(super) struct Waiting {
    /// The subject that was subscribed.
    pub(super) interest: Bytes,
    /// The subject that it was published on.
    pub(super) subject: Subject,
    pub(super) reply: Option<Subject>,
    pub(super) payload: Bytes,
    /// Those of [`command::HEADERS`] that it has.
    headers: Vec<(&'static str, Box<str>)>,
}

impl Waiting {
    fn new(interest: Bytes, message: Message) -> Self {
        let Message { subject, reply, mut payload, headers, .. } = message;
        let Some(headers) = headers else {
            return Self { interest, subject, reply, payload, headers: Vec::new() };
        };
        // The client copies headers, and cuts the body out of the buffer that it has read both into: all of that would be
        // kept, uncounted.
        if text_bytes(&headers) > LONG_HEADERS_BYTES {
            payload = Bytes::copy_from_slice(&payload);
        }
        let own = |name: &'static str| Some((name, kept(headers.get(name)?.as_str())));
        let headers = command::HEADERS.into_iter().filter_map(own).collect();
        Self { interest, subject, reply, payload, headers }
    }

    /// The first header of that name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| *own == name).map(|(_, value)| &**value)
    }

    fn held_bytes(&self) -> usize {
        let texts = self.subject.len() + self.reply.as_ref().map_or(0, |reply| reply.len());
        let header = |(_, value): &(_, Box<str>)| size_of::<(&str, Box<str>)>() + value.len();
        let headers: usize = self.headers.iter().map(header).sum();
        size_of::<Entry>() + MESSAGE_BYTES + texts + self.payload.len() + headers
    }
}

fn text_bytes(headers: &HeaderMap) -> usize {
    let texts = headers.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    texts.map(|(name, value)| AsRef::<str>::as_ref(name).len() + value.as_str().len()).sum()
}

/// The part of a header's text that is kept. A cut one is too long for an id still, and by its end no number and no boolean.
fn kept(text: &str) -> Box<str> {
    if text.len() <= HEADER_BYTES_MAX {
        return text.into();
    }
    format!("{}...", &text[..text.floor_char_boundary(HEADER_BYTES_MAX)]).into()
}

/// The next entry for the worker.
#[derive(Debug)]
pub(super) enum Next {
    /// A command.
    Command(Waiting),
    /// Everything that was here when [`Backlog::push_barrier`] was called with that number has been taken.
    Barrier(u64),
    /// So many commands found no room, and have no outcome.
    Lost(u64),
}

#[derive(Debug)]
enum Entry {
    Command(Waiting),
    Barrier(u64),
}

/// The commands that wait for one worker.
#[derive(Debug)]
pub(super) struct Backlog {
    state: Mutex<State>,
    /// Shared by all workers: the bytes of their backlogs, and the commands that were lost.
    stats: Arc<NatsStats>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    entries: VecDeque<Entry>,
    bytes: usize,
    lost: u64,
    waker: Option<Waker>,
}

impl Backlog {
    /// An empty backlog.
    pub(super) fn new(stats: Arc<NatsStats>) -> Self {
        Self { state: Mutex::default(), stats, bytes_max: BYTES_MAX }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        let state = self.state();
        state.entries.is_empty() && state.lost == 0
    }

    /// Adds a mark behind everything that waits.
    pub(super) fn push_barrier(&self, number: u64) {
        let mut state = self.state();
        state.entries.push_back(Entry::Barrier(number));
        wake(state);
    }

    fn push(&self, command: Waiting) {
        let bytes = command.held_bytes();
        let before = self.stats.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut state = self.state();
        if before.saturating_add(bytes) > self.bytes_max {
            self.stats.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            count(&self.stats.commands_dropped);
            state.lost += 1;
        } else {
            state.bytes += bytes;
            state.entries.push_back(Entry::Command(command));
        }
        wake(state);
    }

    /// Takes the next one out. One task does.
    pub(super) fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Next> {
        let mut state = self.state();
        if state.lost > 0 {
            return Poll::Ready(Next::Lost(std::mem::take(&mut state.lost)));
        }
        match state.entries.pop_front() {
            Some(Entry::Command(command)) => {
                let bytes = command.held_bytes();
                state.bytes -= bytes;
                self.stats.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
                if state.entries.is_empty() {
                    // A flood is over; the room for it is not needed until the next one.
                    state.entries.shrink_to(64);
                }
                Poll::Ready(Next::Command(command))
            }
            Some(Entry::Barrier(number)) => Poll::Ready(Next::Barrier(number)),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        let bytes = self.state().bytes;
        self.stats.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Takes everything out of the subscriptions as soon as it is there, until nobody can add one.
pub(super) async fn take_in(backlog: Arc<Backlog>, mut subscriptions: mpsc::UnboundedReceiver<Incoming>) {
    let mut all = SelectAll::new();
    poll_fn(|cx| {
        loop {
            match subscriptions.poll_recv(cx) {
                Poll::Ready(Some(subscription)) => all.push(subscription),
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        while let Poll::Ready(Some((interest, message))) = all.poll_next_unpin(cx) {
            backlog.push(Waiting::new(interest, message));
        }
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn command(payload: usize) -> Waiting {
        Waiting {
            interest: Bytes::from_static(b"jetlinks.command.product1.device1.>"),
            subject: Subject::from_static("jetlinks.command.product1.device1.direct"),
            reply: Some(Subject::from_static("_INBOX.a")),
            payload: Bytes::from(vec![0; payload]),
            headers: Vec::new(),
        }
    }

    fn pop(backlog: &Backlog) -> Option<Next> {
        match backlog.poll_pop(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(next) => Some(next),
            Poll::Pending => None,
        }
    }

    #[test]
    fn every_command_that_finds_no_room_in_all_lines_together_is_counted_by_its_own() {
        let stats = Arc::new(NatsStats::default());
        let line = || {
            let mut line = Backlog::new(Arc::clone(&stats));
            line.bytes_max = 3 * command(1000).held_bytes();
            line
        };
        let (first, second) = (line(), line());
        for _ in 0..2 {
            first.push(command(1000));
        }
        for _ in 0..4 {
            second.push(command(1000));
        }
        assert!(matches!(pop(&second), Some(Next::Lost(3))), "two and one find room");
        assert!(matches!(pop(&second), Some(Next::Command(_))));
        assert!(pop(&second).is_none() && second.is_empty());
        first.push(command(1000));
        first.push(command(1000));
        assert!(!first.is_empty());
        let taken: Vec<Option<Next>> = std::iter::repeat_with(|| pop(&first)).take(5).collect();
        assert!(matches!(taken[0], Some(Next::Lost(1))), "{taken:?}");
        assert!(taken[1..4].iter().all(|next| matches!(next, Some(Next::Command(_)))), "{taken:?}");
        assert!(taken[4].is_none());
        assert_eq!(stats.waiting_bytes.load(Ordering::Relaxed), 0);
        assert_eq!(stats.commands_dropped.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn a_line_that_ends_gives_its_room_back() {
        let stats = Arc::new(NatsStats::default());
        let backlog = Backlog::new(Arc::clone(&stats));
        backlog.push(command(1000));
        assert!(stats.waiting_bytes.load(Ordering::Relaxed) > 1000);
        drop(backlog);
        assert_eq!(stats.waiting_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_barrier_comes_behind_the_commands_before_it_and_in_front_of_those_after_it() {
        let backlog = Backlog::new(Arc::default());
        backlog.push(command(1));
        backlog.push_barrier(7);
        backlog.push(command(2));
        assert!(matches!(pop(&backlog), Some(Next::Command(command)) if command.payload.len() == 1));
        assert!(matches!(pop(&backlog), Some(Next::Barrier(7))));
        assert!(matches!(pop(&backlog), Some(Next::Command(command)) if command.payload.len() == 2));
        assert!(pop(&backlog).is_none());
    }

    fn read_with(headers: HeaderMap, payload: Bytes) -> Waiting {
        let message = Message {
            subject: Subject::from_static("jetlinks.command.product1.device1.direct"),
            reply: None,
            payload,
            headers: Some(headers),
            status: None,
            description: None,
            length: 0,
        };
        Waiting::new(Bytes::new(), message)
    }

    #[test]
    fn of_headers_those_are_kept_that_a_command_is_read_by_and_of_these_no_more_than_can_be_used() {
        let mut headers = HeaderMap::new();
        headers.insert("correlation-id", "é".repeat(1000));
        headers.insert("timeout", "0".repeat(1000));
        headers.insert("other", "o".repeat(1000));
        headers.append("messageId", "m1");
        headers.append("messageId", "m2");
        let waiting = read_with(headers, Bytes::new());
        assert_eq!(waiting.header("correlation-id"), Some(&*format!("{}...", "é".repeat(128))));
        assert_eq!(waiting.header("timeout"), Some(&*format!("{}...", "0".repeat(256))));
        assert_eq!((waiting.header("messageId"), waiting.header("other")), (Some("m1"), None));
        let bare = read_with(HeaderMap::new(), Bytes::new()).held_bytes();
        assert!((bare + 500..bare + 1000).contains(&waiting.held_bytes()), "headers count");
    }

    #[test]
    fn a_body_behind_long_headers_keeps_nothing_of_what_it_was_read_with() {
        let read = Bytes::from(vec![b' '; 100_000]);
        let of = |long: usize| {
            let mut headers = HeaderMap::new();
            headers.insert("correlation-id", "c".repeat(long));
            read_with(headers, read.slice(99_990..))
        };
        let is_part = |waiting: &Waiting| read.as_ptr_range().contains(&waiting.payload.as_ptr());
        assert!(is_part(&of(10)), "a short one is not worth a copy");
        let long = of(10_000);
        assert!(!is_part(&long));
        assert_eq!(long.payload, read.slice(99_990..));
    }
}
