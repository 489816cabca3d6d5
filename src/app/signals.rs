//! The signals that end the process.

use std::io;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, timeout_at};

/// A signal within this time of the first one is the same one: `timeout` of coreutils signals its child and then the group of
/// both, and a terminal signals all processes of its group, which may hand the signal on.
const REPETITION: Duration = Duration::from_secs(1);

/// Handlers of SIGINT and SIGTERM. Once they are installed neither signal ends the process by itself, and one that arrived is
/// kept until [`Signals::next`].
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Installs the handlers. Must be called inside a runtime.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for a signal.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Waits for another signal that came at least a second after this call, which follows a signal.
    pub async fn next_apart(&mut self) {
        let until = Instant::now() + REPETITION;
        while timeout_at(until, self.next()).await.is_ok() {}
        self.next().await;
    }
}

/// Runtime of the main thread and the signal handlers, made first of all. A signal before a handler is installed would end the
/// process without an exit code of its own, or, in a container's first process, be lost.
#[derive(Debug)]
pub struct Startup {
    pub(super) runtime: Runtime,
    pub(super) signals: Signals,
}

impl Startup {
    /// Makes both. Nothing slow should precede it.
    ///
    /// # Errors
    /// The system gives no runtime or refuses a handler.
    pub fn begin() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let signals = {
            let _inside = runtime.enter();
            Signals::new()?
        };
        Ok(Self { runtime, signals })
    }

    /// Whether a signal has arrived; takes it.
    pub(super) fn has_signal(&mut self) -> bool {
        let Self { runtime, signals } = self;
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = signals.next() => true,
                // `yield_now` lets the runtime poll its signal driver first.
                () = tokio::task::yield_now() => false,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_came_before_anybody_waited_for_one_is_seen_at_once() {
        let mut startup = Startup::begin().unwrap();
        assert!(!startup.has_signal());
        // SAFETY: raise takes an integer; the handler is in place.
        let raised = unsafe { libc::raise(libc::SIGTERM) };
        assert_eq!(raised, 0);
        assert!(startup.has_signal());
        assert!(!startup.has_signal(), "a signal counts once");
    }
}
