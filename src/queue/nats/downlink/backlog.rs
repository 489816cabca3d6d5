//! Commands that have come and wait for the worker.
//!
//! The connection is read as fast as the server sends: a NATS server disconnects slow consumers. All workers of the replica
//! share one bound of bytes for the commands that wait; a command above it is dropped and counted.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use async_nats::Subject;
use bytes::Bytes;

use crate::protocol::command;
use crate::queue::count;
use crate::queue::nats::NatsStats;
use crate::queue::nats::wire::Delivery;
use crate::queue::nats::wire::format::is_subject;

/// Bytes of the commands that may wait in all workers: some 100,000 small ones.
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// Overhead of the allocator for the texts of one command, in bytes.
const ALLOCATIONS_BYTES: usize = 64;

/// Bytes of a header's value that are kept, at most. Every valid value is shorter; [`shorten`] leaves a longer one invalid.
const HEADER_BYTES_MAX: usize = 256;

/// A command as it came.
#[derive(Debug)]
pub(super) struct ReceivedCommand {
    /// The subject that it was published on.
    pub(super) subject: Subject,
    pub(super) reply: Option<Subject>,
    pub(super) payload: Bytes,
    /// The first of each of [`command::HEADERS`] that the message has.
    headers: Vec<(&'static str, Box<str>)>,
}

impl ReceivedCommand {
    /// Copies subject, reply subject, payload and the headers of commands. `None` if subject or reply subject is no valid
    /// subject: it names no device, or nobody who could be answered.
    pub(super) fn new(message: &Delivery<'_>) -> Option<Self> {
        let text = |subject| std::str::from_utf8(subject).ok().filter(|subject| is_subject(subject.as_bytes()));
        let subject = Subject::from(text(message.subject)?);
        let reply = match message.reply {
            Some(reply) => Some(Subject::from(text(reply)?)),
            None => None,
        };
        let mut headers: Vec<(&'static str, Box<str>)> = Vec::new();
        for (name, value) in message.fields() {
            let known = command::HEADERS.into_iter().find(|known| known.as_bytes() == name);
            if let Some(known) = known.filter(|known| headers.iter().all(|(before, _)| before != known)) {
                headers.push((known, shorten(&String::from_utf8_lossy(value))));
            }
        }
        Some(Self { subject, reply, payload: Bytes::copy_from_slice(message.payload), headers })
    }

    /// The first header of that name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| &**value)
    }

    fn held_bytes(&self) -> usize {
        let texts = self.subject.len() + self.reply.as_ref().map_or(0, |reply| reply.len());
        let header = |(_, value): &(_, Box<str>)| size_of::<(&str, Box<str>)>() + value.len();
        let headers: usize = self.headers.iter().map(header).sum();
        size_of::<Entry>() + ALLOCATIONS_BYTES + texts + self.payload.len() + headers
    }
}

/// Cuts a value to [`HEADER_BYTES_MAX`] and marks it with `...`. A cut value is still refused wherever it is read: it is
/// longer than an id may be, and the mark makes it neither a number nor a boolean.
fn shorten(text: &str) -> Box<str> {
    if text.len() <= HEADER_BYTES_MAX {
        return text.into();
    }
    format!("{}...", &text[..text.floor_char_boundary(HEADER_BYTES_MAX)]).into()
}

/// The next entry for the worker.
#[derive(Debug)]
pub(super) enum Next {
    /// A command.
    Command(ReceivedCommand),
    /// Everything that was here when [`Backlog::push_barrier`] was called with that number has been taken.
    Barrier(u64),
    /// This many commands found no room since the last entry, and have no outcome.
    Lost(u64),
}

#[derive(Debug)]
enum Entry {
    Command(ReceivedCommand),
    Barrier(u64),
}

/// The commands that wait for one worker.
#[derive(Debug)]
pub(super) struct Backlog {
    state: RefCell<State>,
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
        Self { state: RefCell::default(), stats, bytes_max: BYTES_MAX }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        let state = self.state.borrow();
        state.entries.is_empty() && state.lost == 0
    }

    /// Adds a mark behind everything that waits.
    pub(super) fn push_barrier(&self, number: u64) {
        self.state.borrow_mut().entries.push_back(Entry::Barrier(number));
        self.wake();
    }

    /// Adds a command, or counts it where there is no room.
    pub(super) fn push(&self, command: ReceivedCommand) {
        let bytes = command.held_bytes();
        let before = self.stats.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut state = self.state.borrow_mut();
        if before.saturating_add(bytes) > self.bytes_max {
            self.stats.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            count(&self.stats.commands_dropped);
            state.lost += 1;
        } else {
            state.bytes += bytes;
            state.entries.push_back(Entry::Command(command));
        }
        drop(state);
        self.wake();
    }

    /// Takes the next entry out. Only one task may poll: there is one waker.
    pub(super) fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Next> {
        let mut state = self.state.borrow_mut();
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

    fn wake(&self) {
        let waker = self.state.borrow_mut().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.stats.waiting_bytes.fetch_sub(self.state.get_mut().bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn command(payload: usize) -> ReceivedCommand {
        ReceivedCommand {
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
    fn a_command_that_finds_no_room_in_all_backlogs_together_is_counted_by_its_own() {
        let stats = Arc::new(NatsStats::default());
        let backlog = || {
            let mut backlog = Backlog::new(Arc::clone(&stats));
            backlog.bytes_max = 3 * command(1000).held_bytes();
            backlog
        };
        let (first, second) = (backlog(), backlog());
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
    fn a_backlog_that_ends_gives_its_room_back() {
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

    fn read(headers: &[u8]) -> ReceivedCommand {
        let subject = b"jetlinks.command.product1.device1.direct";
        let message = Delivery { subject, sid: 2, reply: Some(b"_INBOX.a"), headers, payload: b"{}" };
        ReceivedCommand::new(&message).unwrap()
    }

    #[test]
    fn of_headers_those_are_kept_that_a_command_is_read_by_and_of_these_no_more_than_can_be_used() {
        let (long, zeros, other) = ("é".repeat(1000), "0".repeat(1000), "o".repeat(1000));
        let headers = format!(
            "NATS/1.0\r\ncorrelation-id: {long}\r\ntimeout:{zeros}\r\nother: {other}\r\nmessageId: m1\r\nmessageId: m2\r\n\r\n"
        );
        let waiting = read(headers.as_bytes());
        assert_eq!(waiting.header("correlation-id"), Some(&*format!("{}...", "é".repeat(128))));
        assert_eq!(waiting.header("timeout"), Some(&*format!("{}...", "0".repeat(256))));
        assert_eq!((waiting.header("messageId"), waiting.header("other")), (Some("m1"), None));
        let bare = read(b"").held_bytes();
        assert!((bare + 500..bare + 1000).contains(&waiting.held_bytes()), "headers count");
    }

    #[test]
    fn a_command_without_a_text_for_its_subject_or_its_answer_is_none() {
        let good = Delivery { subject: b"a", sid: 2, reply: None, headers: b"", payload: b"" };
        assert!(ReceivedCommand::new(&good).is_some_and(|waiting| waiting.reply.is_none()));
        assert!(ReceivedCommand::new(&Delivery { subject: b"\xff", ..good }).is_none());
        assert!(ReceivedCommand::new(&Delivery { reply: Some(b"\xff"), ..good }).is_none());
        assert!(ReceivedCommand::new(&Delivery { reply: Some(b"a\rb"), ..good }).is_none());
        let spoilt = Delivery { headers: b"NATS/1.0\r\nmessageId: \xff\r\n\r\n", ..good };
        assert_eq!(ReceivedCommand::new(&spoilt).unwrap().header("messageId"), Some("\u{fffd}"));
    }
}
