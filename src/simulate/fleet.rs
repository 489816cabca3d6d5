//! State that all simulated devices share.

use std::cell::{Cell, RefCell};
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use super::counters::Counters;
use super::plan::Plan;
use super::report::ReportTemplate;

/// Bytes taken from a socket at a time.
const READ_BYTES: usize = 64 * 1024;

/// How far the simulation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Devices connect and send.
    Running,
    /// Nothing is begun any more; acknowledgements may still arrive.
    Settling,
    /// Devices disconnect.
    Closing,
}

/// Shared by the tasks of all devices, which run on one thread.
#[derive(Debug)]
pub(super) struct Fleet {
    /// Behaviour of the devices.
    pub plan: Plan,
    /// Counts.
    pub counters: RefCell<Counters>,
    template: ReportTemplate,
    started: Instant,
    started_wall_ms: u64,
    phase: Cell<Phase>,
    wakers: RefCell<Vec<Option<Waker>>>,
    buffers: RefCell<Buffers>,
    next_connect_ns: Cell<u64>,
    unfinished: Cell<usize>,
    idle: Notify,
    tasks_left: Cell<usize>,
}

/// Buffers of one thread, lent to one device for each step.
#[derive(Debug)]
struct Buffers {
    /// Bytes read from the socket.
    read: Box<[u8]>,
    /// Bytes to be written to the socket.
    out: Vec<u8>,
    scratch: Vec<u8>,
}

/// One step of a device: what it needs from outside.
pub(super) struct Step<'a> {
    /// Behaviour of the devices.
    pub plan: &'a Plan,
    /// Builds reports.
    pub template: &'a ReportTemplate,
    /// Counts.
    pub counters: &'a mut Counters,
    /// Takes the packets to send.
    pub out: &'a mut Vec<u8>,
    /// Room to build a payload in.
    pub scratch: &'a mut Vec<u8>,
    /// Nanoseconds since the simulation began.
    pub now_ns: u64,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
}

impl Fleet {
    /// A fleet of this many devices, none of which has begun.
    pub(super) fn new(plan: Plan, template: ReportTemplate, counters: Counters, devices: usize) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            plan,
            counters: RefCell::new(counters),
            template,
            started: Instant::now(),
            started_wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
            phase: Cell::new(Phase::Running),
            wakers: RefCell::new(vec![None; devices]),
            buffers: RefCell::new(Buffers {
                read: vec![0; READ_BYTES].into_boxed_slice(),
                out: Vec::new(),
                scratch: Vec::new(),
            }),
            next_connect_ns: Cell::new(0),
            unfinished: Cell::new(devices),
            idle: Notify::new(),
            tasks_left: Cell::new(devices),
        }
    }

    /// Nanoseconds since the fleet was made.
    pub(super) fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The moment that many nanoseconds after the fleet was made, at most a year ahead.
    pub(super) fn instant(&self, ns: u64) -> Instant {
        const YEAR: Duration = Duration::from_secs(365 * 86_400);
        self.started + Duration::from_nanos(ns).min(self.started.elapsed() + YEAR)
    }

    /// How far the simulation is.
    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Goes on to a later phase and wakes every device.
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        for waker in self.wakers.borrow().iter().flatten() {
            waker.wake_by_ref();
        }
    }

    /// Keeps the waker of a device for the next change of the phase.
    pub(super) fn register(&self, index: u32, waker: &Waker) {
        let place = &mut self.wakers.borrow_mut()[index as usize];
        if !place.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *place = Some(waker.clone());
        }
    }

    /// Counts a device that has nothing more to do.
    pub(super) fn note_done(&self) {
        self.unfinished.set(self.unfinished.get() - 1);
        self.notify_if_none(&self.unfinished);
    }

    /// How many devices have something to do.
    pub(super) fn unfinished(&self) -> usize {
        self.unfinished.get()
    }

    /// Waits until the number of devices with something to do, or that of tasks, comes down to 0.
    pub(super) async fn idle(&self) {
        self.idle.notified().await;
    }

    /// Counts a device's task that has come to its end.
    pub(super) fn note_task_end(&self) {
        self.tasks_left.set(self.tasks_left.get() - 1);
        self.notify_if_none(&self.tasks_left);
    }

    fn notify_if_none(&self, count: &Cell<usize>) {
        if count.get() == 0 {
            self.idle.notify_one();
        }
    }

    /// How many tasks of devices have not come to their end.
    pub(super) fn tasks_left(&self) -> usize {
        self.tasks_left.get()
    }

    /// Reserves the next moment for a connection attempt, not before `earliest_ns`.
    pub(super) fn connect_slot_ns(&self, earliest_ns: u64) -> u64 {
        if self.plan.connect_interval_ns == 0 {
            return earliest_ns;
        }
        let slot_ns = self.next_connect_ns.get().max(earliest_ns);
        self.next_connect_ns.set(slot_ns + self.plan.connect_interval_ns);
        slot_ns
    }

    /// Gives a device its step: what `step` gets is shared, so it must not outlive the call.
    pub(super) fn step<R>(&self, step: impl FnOnce(&mut Step<'_>, &mut [u8]) -> R) -> R {
        let mut buffers = self.buffers.borrow_mut();
        let Buffers { read, out, scratch } = &mut *buffers;
        out.clear();
        let now_ns = self.now_ns();
        let mut counters = self.counters.borrow_mut();
        let mut lent = Step {
            plan: &self.plan,
            template: &self.template,
            counters: &mut counters,
            out,
            scratch,
            now_ns,
            wall_ms: self.started_wall_ms + now_ns / 1_000_000,
        };
        step(&mut lent, read)
    }
}
