//! Lines that wait for a follower.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

/// Bounds of the lines that wait for one follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Lines at most.
    pub lines: usize,
    /// Bytes of them at most.
    pub bytes: usize,
}

/// A line for a follower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// JSON in one line, without its end.
    Text(Bytes),
    /// So many lines were dropped at this place.
    Dropped(u64),
}

/// The end of those who write lines.
#[derive(Debug, Clone)]
pub struct LineSender {
    sender: mpsc::Sender<Queued>,
    counts: Arc<Counts>,
    bytes_max: usize,
}

/// The end of the follower.
#[derive(Debug)]
pub(super) struct LineReceiver {
    receiver: mpsc::Receiver<Queued>,
    counts: Arc<Counts>,
    /// A line that was taken out behind others that were dropped.
    next: Option<Bytes>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Bytes that wait.
    bytes: AtomicUsize,
    /// Lines that were dropped behind the last one that waits.
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Queued {
    text: Bytes,
    /// Lines that were dropped in front of it.
    dropped: u64,
}

/// A queue without lines.
pub(super) fn lines(bounds: Bounds) -> (LineSender, LineReceiver) {
    let (sender, receiver) = mpsc::channel(bounds.lines);
    let counts = Arc::new(Counts::default());
    let sender = LineSender { sender, counts: Arc::clone(&counts), bytes_max: bounds.bytes };
    (sender, LineReceiver { receiver, counts, next: None })
}

impl LineSender {
    /// Adds a line, or counts it where there is no room. Never waits.
    pub fn offer(&self, text: &Bytes) {
        let Counts { bytes, dropped } = &*self.counts;
        // Several workers may pass the bound together, by one line each.
        let has_room = bytes.load(Ordering::Relaxed).saturating_add(text.len()) <= self.bytes_max;
        match self.sender.try_reserve() {
            Ok(permit) if has_room => {
                bytes.fetch_add(text.len(), Ordering::Relaxed);
                permit.send(Queued { text: text.clone(), dropped: dropped.swap(0, Ordering::Relaxed) });
            }
            _ => self.note_dropped(1),
        }
    }

    /// Counts lines that were dropped, here or elsewhere.
    pub fn note_dropped(&self, count: u64) {
        self.counts.dropped.fetch_add(count, Ordering::Relaxed);
    }
}

impl LineReceiver {
    pub(super) async fn next(&mut self) -> Line {
        if let Some(line) = self.take() {
            return line;
        }
        match self.receiver.recv().await {
            Some(queued) => self.out(queued),
            // The follower holds a sender itself.
            None => std::future::pending().await,
        }
    }

    pub(super) fn take(&mut self) -> Option<Line> {
        if let Some(text) = self.next.take() {
            return Some(Line::Text(text));
        }
        match self.receiver.try_recv() {
            Ok(queued) => Some(self.out(queued)),
            Err(_) => match self.counts.dropped.swap(0, Ordering::Relaxed) {
                0 => None,
                dropped => Some(Line::Dropped(dropped)),
            },
        }
    }

    fn out(&mut self, Queued { text, dropped }: Queued) -> Line {
        self.counts.bytes.fetch_sub(text.len(), Ordering::Relaxed);
        if dropped == 0 {
            return Line::Text(text);
        }
        self.next = Some(text);
        Line::Dropped(dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(receiver: &mut LineReceiver) -> Vec<String> {
        std::iter::from_fn(|| receiver.take())
            .map(|line| match line {
                Line::Text(text) => String::from_utf8_lossy(&text).into_owned(),
                Line::Dropped(count) => format!("-{count}"),
            })
            .collect()
    }

    #[test]
    fn lines_beyond_the_bound_are_dropped_and_told_where_they_would_have_been() {
        let (sender, mut receiver) = lines(Bounds { lines: 3, bytes: 100 });
        let offer = |text: &'static str| sender.offer(&Bytes::from_static(text.as_bytes()));
        ["a", "b", "c", "d", "e"].into_iter().for_each(offer);
        assert_eq!(receiver.take(), Some(Line::Text(Bytes::from_static(b"a"))));
        ["f", "g"].into_iter().for_each(offer);
        assert_eq!(taken(&mut receiver), ["b", "c", "-2", "f", "-1"]);
        assert_eq!(taken(&mut receiver), [""; 0]);
        offer("h");
        assert_eq!(taken(&mut receiver), ["h"]);
    }

    #[test]
    fn bytes_are_bounded_too_and_are_free_again_once_read() {
        let (sender, mut receiver) = lines(Bounds { lines: 9, bytes: 10 });
        let offer = |text: &'static str| sender.offer(&Bytes::from_static(text.as_bytes()));
        ["123456", "7890", "x", "01234567890"].into_iter().for_each(offer);
        assert_eq!(taken(&mut receiver), ["123456", "7890", "-2"]);
        ["1234567890", "1"].into_iter().for_each(offer);
        sender.note_dropped(5);
        assert_eq!(taken(&mut receiver), ["1234567890", "-6"]);
    }
}
