//! The thread that writes stdout.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use bytes::Bytes;
use tokio::sync::watch;

use super::{StdioStats, add};
use crate::protocol::uplink::{Availability, DeliveryId, Inbox, Receipt};

/// Lines that may wait. Envelopes are shared with the sessions that hold them, so one costs about 80 bytes here, 80 MiB
/// in all at worst; outcomes come on top and are bounded by the commands that wait for one.
const LINES_MAX: usize = 1 << 20;

/// Stdout, shared by all workers: takes lines, writes each batch at once, then posts its receipts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StdioWriter {
    shared: Arc<Shared>,
    gone: watch::Receiver<bool>,
}

/// The result of [`StdioWriter::push`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// The envelope was not taken.
    Refused,
    /// It was taken behind others.
    Taken,
    /// It was taken, and the thread waits for it: [`StdioWriter::wake`] must follow.
    First,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    stats: Arc<StdioStats>,
}

#[derive(Debug, Default)]
struct Queue {
    lines: Vec<Line>,
    /// The thread waits for lines.
    is_waiting: bool,
    is_gone: bool,
    is_closed: bool,
    overflowed: Vec<Arc<Inbox>>,
    inboxes: Vec<Arc<Inbox>>,
}

#[derive(Debug)]
struct Line {
    payload: Bytes,
    receipt: Option<(DeliveryId, Arc<Inbox>)>,
}

impl StdioWriter {
    /// Starts the thread on `sink`, such as the process' stdout.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start_on(sink: impl Write + Send + 'static, stats: Arc<StdioStats>) -> io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), filled: Condvar::new(), stats });
        let (sender, gone) = watch::channel(false);
        let own = Arc::clone(&shared);
        thread::Builder::new().name("stdout".to_owned()).spawn(move || write(&own, sink, &sender))?;
        Ok(Self { shared, gone })
    }

    /// Waits until stdout is gone: the reader has closed it, or the disk behind it is full. The process has no queue
    /// then and should end. Never returns otherwise.
    pub async fn gone(&self) {
        let mut gone = self.gone.clone();
        if gone.wait_for(|gone| *gone).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Ends the thread once every line taken so far is written, and waits for that.
    pub async fn finish(&self) {
        self.shared.lock().is_closed = true;
        self.shared.filled.notify_one();
        let mut gone = self.gone.clone();
        // The thread drops its sender when it ends; stdout being gone ends it as well.
        while !*gone.borrow_and_update() && gone.changed().await.is_ok() {}
    }

    /// Makes an inbox hear of stdout being there or gone.
    pub(super) fn register(&self, inbox: &Arc<Inbox>) {
        let mut queue = self.shared.lock();
        queue.inboxes.push(Arc::clone(inbox));
        let availability = if queue.is_gone { Availability::Away } else { Availability::Ok };
        drop(queue);
        inbox.report(availability);
    }

    /// Takes an envelope.
    pub(super) fn push(&self, payload: &Bytes, id: DeliveryId, inbox: &Arc<Inbox>) -> Pushed {
        let mut queue = self.shared.lock();
        if queue.is_gone || queue.is_closed {
            add(&self.shared.stats.refused, 1);
            return Pushed::Refused;
        }
        if queue.lines.len() >= LINES_MAX {
            if !queue.overflowed.iter().any(|other| Arc::ptr_eq(other, inbox)) {
                queue.overflowed.push(Arc::clone(inbox));
            }
            add(&self.shared.stats.refused, 1);
            return Pushed::Refused;
        }
        let is_first = queue.lines.is_empty();
        queue.lines.push(Line { payload: payload.clone(), receipt: Some((id, Arc::clone(inbox))) });
        if is_first { Pushed::First } else { Pushed::Taken }
    }

    /// Wakes the thread, which then takes all lines that are there. Where it does not wait, it looks for lines before it does.
    pub(super) fn wake(&self) {
        if self.is_waiting() {
            self.shared.filled.notify_one();
        }
    }

    /// Whether the thread waits for lines.
    pub(super) fn is_waiting(&self) -> bool {
        self.shared.lock().is_waiting
    }

    /// Prints a line that nobody waits for: an outcome. Lost when stdout is gone, as the process is then, too.
    pub fn print(&self, payload: Bytes) {
        let mut queue = self.shared.lock();
        if queue.is_gone || queue.is_closed {
            return;
        }
        add(&self.shared.stats.answers, 1);
        let is_first = queue.lines.is_empty();
        queue.lines.push(Line { payload, receipt: None });
        drop(queue);
        // Otherwise whoever brought the first one wakes the thread.
        if is_first {
            self.wake();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for lines and takes all of them; `None` when there will be no more.
    fn take(&self, batch: &mut Vec<Line>) -> Option<Vec<Arc<Inbox>>> {
        let mut queue = self.lock();
        while queue.lines.is_empty() {
            if queue.is_closed {
                return None;
            }
            queue.is_waiting = true;
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.is_waiting = false;
        }
        mem::swap(&mut queue.lines, batch);
        Some(mem::take(&mut queue.overflowed))
    }
}

fn write(shared: &Shared, mut sink: impl Write, gone: &watch::Sender<bool>) {
    let mut batch = Vec::new();
    let mut text = Vec::new();
    while let Some(overflowed) = shared.take(&mut batch) {
        text.clear();
        for line in &batch {
            append_line(&mut text, &line.payload);
        }
        let written = sink.write_all(&text).and_then(|()| sink.flush());
        // A batch after a pause can be large, an ordinary one is not; keep the memory of an ordinary one.
        text.shrink_to(1 << 20);
        let is_stored = written.is_ok();
        settle(shared, &mut batch, is_stored);
        if let Err(error) = written {
            tracing::error!(%error, "stdout is gone");
            let mut queue = shared.lock();
            queue.is_gone = true;
            settle(shared, &mut mem::take(&mut queue.lines), false);
            let inboxes = mem::take(&mut queue.inboxes);
            drop(queue);
            for inbox in inboxes {
                inbox.report(Availability::Away);
            }
            gone.send_replace(true);
            return;
        }
        for inbox in overflowed {
            inbox.report(Availability::Ok);
        }
    }
}

/// JSON may hold line feeds between its tokens, never inside a text: a space is the same there.
fn append_line(text: &mut Vec<u8>, payload: &[u8]) {
    let mut rest = payload;
    while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
        text.extend_from_slice(&rest[..at]);
        text.push(b' ');
        rest = &rest[at + 1..];
    }
    text.extend_from_slice(rest);
    text.push(b'\n');
}

/// Posts the receipts of a batch, runs of the same inbox at once.
fn settle(shared: &Shared, batch: &mut Vec<Line>, is_stored: bool) {
    let mut receipts = Vec::new();
    let mut current: Option<Arc<Inbox>> = None;
    let mut count = 0;
    for line in batch.drain(..) {
        let Some((id, inbox)) = line.receipt else { continue };
        count += 1;
        if let Some(other) = current.as_ref().filter(|other| !Arc::ptr_eq(other, &inbox)) {
            other.post(&mut receipts);
        }
        receipts.push(if is_stored { Receipt::Stored(id) } else { Receipt::Failed(id) });
        current = Some(inbox);
    }
    if let Some(inbox) = current {
        inbox.post(&mut receipts);
    }
    add(if is_stored { &shared.stats.stored } else { &shared.stats.failed }, count);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::uplink::SlotId;

    #[test]
    fn an_envelope_with_line_feeds_is_one_line() {
        let mut text = Vec::new();
        append_line(&mut text, b"{\r\n  \"a\": \"\\n\"\n}");
        append_line(&mut text, b"{}");
        assert_eq!(text, b"{    \"a\": \"\\n\" }\n{}\n");
    }
    /// A sink that breaks after some bytes.
    struct Pipe {
        taken: Arc<Mutex<Vec<u8>>>,
        room: usize,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if bytes.len() > self.room {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.room -= bytes.len();
            self.taken.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    async fn next(inbox: &Inbox) -> (Availability, Vec<Receipt>) {
        let mut receipts = Vec::new();
        let report = std::future::poll_fn(|cx| inbox.poll_take(cx, &mut receipts)).await;
        (report.availability, receipts)
    }

    #[tokio::test]
    async fn a_receipt_follows_the_flush_and_a_broken_pipe_ends_the_queue() {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let pipe = Pipe { taken: Arc::clone(&taken), room: 9 };
        let writer = StdioWriter::start_on(pipe, Arc::default()).unwrap();
        let inbox = Arc::new(Inbox::new());
        writer.register(&inbox);
        assert_eq!(next(&inbox).await, (Availability::Ok, Vec::new()));
        let id = DeliveryId { slot: SlotId { index: 1, generation: 1 }, sequence: 1 };
        assert_eq!(writer.push(&Bytes::from_static(b"{\"a\":11}"), id, &inbox), Pushed::First);
        writer.wake();
        assert_eq!(next(&inbox).await, (Availability::Ok, vec![Receipt::Stored(id)]));
        assert_eq!(*taken.lock().unwrap(), b"{\"a\":11}\n");
        writer.print(Bytes::from_static(b"{}"));
        writer.gone().await;
        assert_eq!(next(&inbox).await.0, Availability::Away);
        assert_eq!(writer.push(&Bytes::from_static(b"{}"), id, &inbox), Pushed::Refused);
        writer.finish().await;
    }

    #[tokio::test]
    async fn finishing_waits_until_every_line_is_written() {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let pipe = Pipe { taken: Arc::clone(&taken), room: usize::MAX };
        let writer = StdioWriter::start_on(pipe, Arc::default()).unwrap();
        for _ in 0..1000 {
            writer.print(Bytes::from_static(b"{}"));
        }
        writer.finish().await;
        assert_eq!(taken.lock().unwrap().len(), 3000);
    }
}
