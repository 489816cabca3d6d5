//! The thread that looks at the registry file.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::{FileRegistry, Reload};
use crate::memory;

/// How often the file is looked at. A change counts after two looks; the contract allows five seconds.
pub(super) const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Looks at a registry file once a second until it is dropped. The drop does not wait for the thread: a file system that
/// does not answer must not keep the process from ending.
#[derive(Debug)]
pub struct Watch {
    _stop: mpsc::Sender<()>,
}

impl Watch {
    /// Starts the thread. `changed` is called on it for everything but [`Reload::Unchanged`].
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(registry: Arc<FileRegistry>, mut changed: impl FnMut(Reload) + Send + 'static) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        thread::Builder::new().name("registry".to_owned()).spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(POLL_INTERVAL) {
                match registry.poll() {
                    Reload::Unchanged => {}
                    reload => {
                        changed(reload);
                        memory::give_back();
                    }
                }
            }
        })?;
        Ok(Self { _stop: stop })
    }
}
