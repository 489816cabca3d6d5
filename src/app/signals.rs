//! The signals that end the process.

use std::io;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT and SIGTERM: the two ways in which people and supervisors end a program. From its making on neither of them
/// ends the process by itself, and one that came is kept until [`Signals::next`].
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Begins to listen; inside a runtime.
    ///
    /// # Errors
    /// The system's, when it takes no handler.
    pub fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for one of them.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What the process has from its first moment on: the runtime of its main thread, and the signals that end it. A signal
/// that came before there was a handler would end the process without an exit code of its own, or, where the process is
/// the first one of a container, be lost.
#[derive(Debug)]
pub struct Startup {
    pub(super) runtime: Runtime,
    pub(super) signals: Signals,
}

impl Startup {
    /// Makes both. Nothing should come before it that takes time.
    ///
    /// # Errors
    /// The system's, when it gives no runtime or takes no handler.
    pub fn begin() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let signals = {
            let _inside = runtime.enter();
            Signals::new()?
        };
        Ok(Self { runtime, signals })
    }

    /// Whether a signal has come by now.
    pub(super) fn is_told_to_end(&mut self) -> bool {
        let Self { runtime, signals } = self;
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = signals.next() => true,
                // The runtime looks for signals before it comes back here.
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
        assert!(!startup.is_told_to_end());
        // SAFETY: raise takes an integer; the handler is in place.
        let raised = unsafe { libc::raise(libc::SIGTERM) };
        assert_eq!(raised, 0);
        assert!(startup.is_told_to_end());
        assert!(!startup.is_told_to_end(), "a signal counts once");
    }
}
