//! The thread that looks at the registry file.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{FileRegistry, Reload};

/// How often the file is looked at. A change counts after two looks; the contract allows five seconds.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Looks at a registry file once a second until it is dropped.
#[derive(Debug)]
pub struct Watch {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts the thread. `changed` is called on it for everything but [`Reload::Unchanged`].
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(registry: Arc<FileRegistry>, mut changed: impl FnMut(Reload) + Send + 'static) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new().name("registry".to_owned()).spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(POLL_INTERVAL) {
                match registry.poll() {
                    Reload::Unchanged => {}
                    reload => changed(reload),
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the callback was reported by its own thread; there is nothing left to do about it here.
            let _ = thread.join();
        }
    }
}
