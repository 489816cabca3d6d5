//! The shed of this replica that is under way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::replica::shed::{STEP_US, Shares, Shed, ShedPlan, ShedState, ShedStatus};
use crate::replica::{Directory, WorkerMessage, WorkerSender};
use crate::telemetry::health::{Health, PartState};
use crate::transport::Clock;

/// How often sessions are counted by worker: that looks at each of them.
const COUNT_EVERY: u32 = 20;

/// The shed of this replica; shared by whoever may ask for one.
#[derive(Debug)]
pub struct Shedding {
    last: Mutex<Option<Shed>>,
    changed: Notify,
    /// Whether another replica sheds.
    others: AtomicBool,
    directory: Arc<Directory>,
    health: Arc<Health>,
    clock: Clock,
}

impl Shedding {
    /// No shed so far. [`Shedding::run`] must run.
    pub fn new(directory: Arc<Directory>, health: Arc<Health>, clock: Clock) -> Self {
        Self {
            last: Mutex::default(),
            changed: Notify::new(),
            others: AtomicBool::new(false),
            directory,
            health,
            clock,
        }
    }

    /// Begins a shed; it takes the place of one that is under way.
    pub fn begin(&self, plan: ShedPlan) -> ShedStatus {
        let mut shed = Shed::new(plan, self.clock.now().us);
        // Without a session to end there is nothing to wait for, and `left` says how many there are.
        shed.step(self.clock.now().us, self.directory.staying(), self.may_end(), true);
        let status = shed.status();
        *self.lock() = Some(shed);
        self.changed.notify_one();
        tracing::info!(goal = ?plan.goal, rate = plan.rate, left = status.left, "an operator lets sessions be shed");
        status
    }

    /// Stops the shed that is under way.
    pub fn stop(&self) {
        if let Some(shed) = self.lock().as_mut() {
            shed.stop();
        }
    }

    /// Where the last shed stands; `None`: there was none.
    pub fn status(&self) -> Option<ShedStatus> {
        self.lock().as_ref().map(Shed::status)
    }

    /// Whether the replica has too many sessions for the shed that is under way, or had them recently.
    pub fn is_unsettled(&self) -> bool {
        self.lock().as_ref().is_some_and(|shed| shed.is_under_way() && !shed.is_settled())
    }

    /// Notes whether another replica sheds.
    pub fn note_others(&self, shed: bool) {
        self.others.store(shed, Ordering::Relaxed);
    }

    /// Whether CONNECTs would be taken, as far as this replica can tell, and it has not begun to end.
    fn may_end(&self) -> bool {
        let readiness = self.health.readiness();
        readiness.queue == PartState::Ok && readiness.registry == PartState::Ok && !readiness.draining
    }

    /// Steps whichever shed is under way, until the future is dropped.
    pub async fn run(&self, worker_senders: &[WorkerSender]) {
        let (mut shares, mut sessions, mut steps) = (Shares::default(), vec![1; worker_senders.len()], 0_u32);
        loop {
            let Some(count) = self.step() else {
                steps = 0;
                self.changed.notified().await;
                continue;
            };
            if worker_senders.len() > 1 && steps.is_multiple_of(COUNT_EVERY) {
                sessions = self.directory.count_by_worker(worker_senders.len());
            }
            steps = steps.wrapping_add(1);
            for (worker_sender, count) in worker_senders.iter().zip(shares.divide(count, &sessions)) {
                if count > 0 {
                    worker_sender.send(WorkerMessage::Shed { count });
                }
            }
            tokio::time::sleep(Duration::from_micros(STEP_US)).await;
        }
    }

    /// Number of sessions to end now; `None`: no shed is under way.
    fn step(&self) -> Option<usize> {
        let (may_end, sessions, now) = (self.may_end(), self.directory.staying(), self.clock.now());
        let mut last = self.lock();
        let shed = last.as_mut().filter(|shed| shed.is_under_way())?;
        let count = shed.step(now.us, sessions, may_end, self.others.load(Ordering::Relaxed));
        let ShedStatus { ended, left, .. } = shed.status();
        match shed.status().state {
            ShedState::Done => tracing::info!(ended, "sessions were shed"),
            ShedState::GaveUp => tracing::warn!(ended, left, "no more sessions are shed: their devices come back here"),
            ShedState::Running | ShedState::Waiting | ShedState::Stopped => {}
        }
        Some(count)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Shed>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
