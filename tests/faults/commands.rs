//! Commands that are asked all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::caller::{Caller, read_of};
use crate::support::{Registration, wait};

/// A question this often, to one device after the other.
const PAUSE: Duration = Duration::from_millis(100);

/// The bridge gives a device two seconds.
const BODY: &str = r#"{"properties":["sn"],"headers":{"timeout":2000}}"#;

/// How long a caller waits for an outcome; the device's time and as much again.
const PATIENCE: Duration = Duration::from_secs(4);

/// A caller that asks until it is told to stop.
pub(crate) struct Commands {
    caller: Arc<Caller>,
    is_over: Arc<AtomicBool>,
    asking: Option<JoinHandle<()>>,
}

/// Outcomes of all commands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcomes {
    /// Questions.
    pub(crate) asked: usize,
    /// Those that got nothing, not even "no responders".
    pub(crate) without: usize,
    /// Those that got more than one.
    pub(crate) repeated: usize,
}

impl Commands {
    /// Begins to ask these devices by the servers at these addresses.
    pub(crate) fn start(urls: &[String], devices: &[Registration]) -> Self {
        let (caller, is_over) = (Arc::new(Caller::connect(urls)), Arc::new(AtomicBool::new(false)));
        let (asking, is_told, devices) = (Arc::clone(&caller), Arc::clone(&is_over), devices.to_vec());
        let asking = thread::spawn(move || {
            for device in devices.iter().cycle() {
                if wait::within(PAUSE, || is_told.load(Ordering::Relaxed).then_some(())).is_some() {
                    return;
                }
                asking.ask(&read_of(&device.id), BODY);
            }
        });
        Self { caller, is_over, asking: Some(asking) }
    }

    /// Whether the device itself answers now.
    pub(crate) fn reach(&self, device: &Registration) -> bool {
        let asked = self.caller.ask(&read_of(&device.id), BODY);
        self.caller.answer_within(asked, PATIENCE).is_some_and(|answer| answer.is_of_device())
    }

    /// Asks no more.
    pub(crate) fn stop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(asking) = self.asking.take() {
            asking.join().expect("the thread only asks");
        }
    }

    /// Waits for what is outstanding, and counts.
    pub(crate) fn outcomes(&self) -> Outcomes {
        let open = || self.caller.counts().iter().filter(|count| **count == 0).count();
        wait::within(PATIENCE, || (open() == 0).then_some(()));
        let counts = self.caller.counts();
        let repeated = counts.iter().filter(|count| **count > 1).count();
        Outcomes { asked: counts.len(), without: open(), repeated }
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}
