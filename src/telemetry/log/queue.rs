//! Lines on their way to stderr.
#![expect(clippy::disallowed_methods, reason = "outside the pure core, so it reads the clock itself")]

use std::io::{self, Write};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::line::{self, Shape};

/// Bytes of lines that may wait, besides as many that the thread is just writing. A line above that is dropped.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// Lines that wait for the thread that writes them to stderr. Whoever logs never waits: where nobody reads stderr, as with a
/// full pipe, lines are dropped and counted. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct LogQueue {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Notified when there is something to write.
    filled: Condvar,
    /// Notified when everything is written.
    emptied: Condvar,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    /// Lines that were dropped behind those that wait.
    gap: u64,
    is_writing: bool,
}

impl LogQueue {
    /// Starts the thread that writes to `out`; `dropped` counts the lines that are dropped.
    ///
    /// # Errors
    /// The system's error, if it starts no thread.
    pub(super) fn start(shape: Shape, out: impl Write + Send + 'static, dropped: Arc<AtomicU64>) -> io::Result<Self> {
        let queue = Self { shared: Arc::new(Shared { dropped, ..Shared::default() }) };
        let shared = Arc::clone(&queue.shared);
        thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_to(shape, out))?;
        Ok(queue)
    }

    /// Waits until everything is written, `timeout` at most.
    pub(super) fn flush(&self, timeout: Duration) {
        let until = Instant::now() + timeout;
        let mut state = self.shared.lock();
        while !state.lines.is_empty() || state.gap > 0 || state.is_writing {
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return;
            };
            state = self.shared.emptied.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Write for LogQueue {
    /// Takes one line, or drops it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.shared.lock();
        if state.lines.len() + line.len() > WAITING_BYTES_MAX || state.gap > 0 {
            // Once a line was dropped all are, until the thread has written how many: so that line stands where they would.
            state.gap += 1;
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            state.lines.extend_from_slice(line);
        }
        drop(state);
        self.shared.filled.notify_one();
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes lines as they come, until the process ends.
    fn write_to(&self, shape: Shape, mut out: impl Write) {
        let mut lines = Vec::new();
        loop {
            let mut state = self.lock();
            state.is_writing = false;
            while state.lines.is_empty() && state.gap == 0 {
                self.emptied.notify_all();
                state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            lines.clear();
            mem::swap(&mut state.lines, &mut lines);
            let gap = mem::take(&mut state.gap);
            state.is_writing = true;
            drop(state);
            // Nobody is left to tell when stderr is closed.
            let _unwritten = out.write_all(&lines);
            if gap > 0 {
                let _unwritten = out.write_all(line::gap(shape, gap).as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// Hands each write over to somebody who takes it, or does not.
    struct Handover(SyncSender<Vec<u8>>);

    impl Write for Handover {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn start() -> (LogQueue, Receiver<Vec<u8>>) {
        let (sender, written) = sync_channel(0);
        (LogQueue::start(SHAPE, Handover(sender), Arc::default()).unwrap(), written)
    }

    fn dropped(queue: &LogQueue) -> u64 {
        queue.shared.dropped.load(Ordering::Relaxed)
    }

    fn text(written: &Receiver<Vec<u8>>) -> String {
        String::from_utf8(written.recv_timeout(Duration::from_secs(60)).unwrap()).unwrap()
    }

    const SHAPE: Shape = Shape::Text { ansi: false };

    #[test]
    fn nobody_waits_for_a_reader_that_stands_still_and_what_is_left_out_is_told_in_its_place() {
        let (mut queue, written) = start();
        queue.write_all(b"first\n").unwrap();
        // The thread hands the first line over, to nobody yet.
        while !queue.shared.lock().is_writing {
            thread::yield_now();
        }
        let line = [b'x'; 1 << 10];
        for _ in 0..1_500 {
            queue.write_all(&line).unwrap();
        }
        assert_eq!(dropped(&queue), 1_500 - 1_024);
        assert_eq!(text(&written), "first\n");
        assert_eq!(text(&written).len(), WAITING_BYTES_MAX);
        queue.write_all(b"after\n").unwrap();
        let gap = text(&written);
        assert!(gap.ends_with(" suppressed=476\n") && gap.matches('\n').count() == 1, "{gap}");
        assert_eq!(text(&written), "after\n");
        assert_eq!(dropped(&queue), 476);
    }

    #[test]
    fn flushing_waits_until_all_is_written_and_not_longer_than_it_may() {
        let (mut queue, written) = start();
        queue.write_all(b"one\n").unwrap();
        let begin = Instant::now();
        queue.flush(Duration::from_millis(50));
        assert!(begin.elapsed() >= Duration::from_millis(50));
        let reading = thread::spawn(move || [text(&written), text(&written)].concat());
        queue.write_all(b"two\n").unwrap();
        queue.flush(Duration::from_secs(60));
        assert_eq!(reading.join().unwrap(), "one\ntwo\n");
    }

    #[test]
    fn a_closed_stderr_costs_nobody_anything() {
        let (mut queue, written) = start();
        drop(written);
        for _ in 0..10 {
            queue.write_all(b"line\n").unwrap();
        }
        queue.flush(Duration::from_secs(60));
        assert_eq!((dropped(&queue), queue.shared.lock().lines.len()), (0, 0));
    }
}
