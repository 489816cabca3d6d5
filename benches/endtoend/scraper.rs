//! A Prometheus in a hurry.

use std::net::SocketAddr;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::http;

/// Prometheus itself asks every fifteen seconds or more.
const INTERVAL: Duration = Duration::from_secs(1);

/// Reads `/metrics` of a bridge until it is dropped.
#[derive(Debug)]
pub(crate) struct Scraper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Scraper {
    /// Starts it.
    pub(crate) fn start(admin: SocketAddr) -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                // A page that is missing shows in the next one.
                drop(http::get(admin, "/metrics"));
            }
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has no reason to panic, and the figures do not depend on it.
            drop(thread.join());
        }
    }
}
