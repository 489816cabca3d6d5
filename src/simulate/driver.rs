//! One device's task: connects it, gives it its steps and keeps its time, until the simulation ends.
//!
//! 1. [`drive`] waits until an attempt is due, and connects.
//! 2. Each wake-up is a [`Connection::step`]; in between a timer stands at [`Connection::deadline_ns`].
//! 3. A step that ends the connection is counted; after a pause the device connects again.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

use super::counters::{Counters, End};
use super::fleet::{Fleet, Phase, Step};
use super::plan::Plan;
use crate::queue::backoff;

/// A simulated device without its connection, by whatever protocol it speaks.
pub(super) trait Device {
    /// Takes note that the connection is over; what was not acknowledged is sent again on the next.
    fn close(&mut self, counters: &mut Counters);

    /// Whether the bridge has accepted the connection at hand.
    fn is_connected(&self) -> bool;

    /// Whether the bridge ever accepted a connection.
    fn was_connected(&self) -> bool;

    /// Whether nothing waits for an acknowledgement.
    fn is_settled(&self) -> bool;

    /// Whether all reports that the plan wants are sent and acknowledged.
    fn is_done(&self, plan: &Plan) -> bool;

    /// Whether the bridge refused the device for a reason that will be the same next time.
    fn is_refusal(end: End) -> bool;
}

/// A connection of a device to the bridge.
pub(super) trait Connection: Sized {
    /// The device.
    type Device: Device;
    /// How its connections are secured.
    type Security;

    /// Connects; the handshake of a protocol above the transport is part of the steps.
    async fn open(address: SocketAddr, security: &Self::Security) -> Result<Self, End>;

    /// Reads all that is there and sends what is due; nothing new unless the simulation is [`Phase::Running`].
    ///
    /// # Errors
    /// The reason for which the connection is over; [`End::Finished`] once there is no reason for it any more.
    fn step(
        &mut self,
        device: &mut Self::Device,
        cx: &mut Context<'_>,
        phase: Phase,
        step: &mut Step<'_>,
        read: &mut [u8],
    ) -> Result<(), End>;

    /// Time of the next step if nothing arrives, in ns since the start; in the past: at once; `u64::MAX`: never.
    fn deadline_ns(&mut self, device: &Self::Device, phase: Phase, now_ns: u64, plan: &Plan) -> u64;
}

/// Runs one device until the simulation ends, or until the device is refused and never was connected.
pub(super) async fn drive<C: Connection>(fleet: Rc<Fleet>, index: u32, mut device: C::Device, security: C::Security) {
    let mut backoff = backoff();
    let (mut is_done, mut earliest_ns) = (false, 0);
    while wait(&fleet, index, &device, fleet.connect_slot_ns(earliest_ns)).await {
        let end = match C::open(fleet.plan.address, &security).await {
            Ok(mut connection) => {
                let mut timer = Timer::new(&fleet);
                poll_fn(|cx| poll(cx, &fleet, index, &mut device, &mut connection, &mut timer, &mut is_done)).await
            }
            Err(end) => end,
        };
        let was_connected = device.is_connected();
        if was_connected {
            backoff.reset();
        }
        let mut counters = fleet.counters.borrow_mut();
        counters.count_end(end, was_connected);
        device.close(&mut counters);
        drop(counters);
        let is_hopeless = C::Device::is_refusal(end) && !device.was_connected();
        if end == End::Finished || is_hopeless || !fleet.plan.reconnect {
            break;
        }
        earliest_ns = fleet.now_ns() + super::nanos(backoff.pause());
    }
    if !is_done {
        fleet.note_done();
    }
    fleet.note_task_end();
}

/// Waits until a connection attempt is due. False: there is no reason for one any more.
async fn wait<D: Device>(fleet: &Fleet, index: u32, device: &D, until_ns: u64) -> bool {
    let mut sleep = std::pin::pin!(sleep_until(Instant::from_std(fleet.instant(until_ns))));
    poll_fn(|cx| {
        fleet.register(index, cx.waker());
        match fleet.phase() {
            Phase::Settling if !device.is_settled() => {}
            Phase::Running => {}
            Phase::Settling | Phase::Closing => return Poll::Ready(false),
        }
        sleep.as_mut().poll(cx).map(|()| true)
    })
    .await
}

/// One step; ready when the connection is over.
fn poll<C: Connection>(
    cx: &mut Context<'_>,
    fleet: &Fleet,
    index: u32,
    device: &mut C::Device,
    connection: &mut C,
    timer: &mut Timer,
    is_done: &mut bool,
) -> Poll<End> {
    fleet.register(index, cx.waker());
    let phase = fleet.phase();
    let end = fleet.step(|step, read| connection.step(device, cx, phase, step, read));
    if let Err(end) = end {
        return Poll::Ready(if phase == Phase::Closing { End::Finished } else { end });
    }
    if !*is_done && device.is_done(&fleet.plan) {
        *is_done = true;
        fleet.note_done();
    }
    let now_ns = fleet.now_ns();
    timer.set(cx, fleet, now_ns, connection.deadline_ns(device, phase, now_ns, &fleet.plan));
    Poll::Pending
}

/// Wakes a task at its deadline.
struct Timer {
    sleep: Pin<Box<Sleep>>,
    set_ns: u64,
}

impl Timer {
    fn new(fleet: &Fleet) -> Self {
        let sleep = Box::pin(sleep_until(Instant::from_std(fleet.instant(u64::MAX))));
        Self { sleep, set_ns: u64::MAX }
    }

    /// A deadline that moved away is looked at when the old one has come, which spares a timer for each message.
    fn set(&mut self, cx: &mut Context<'_>, fleet: &Fleet, now_ns: u64, deadline_ns: u64) {
        if self.set_ns <= deadline_ns && now_ns < self.set_ns {
            return;
        }
        self.set_ns = deadline_ns;
        if deadline_ns == u64::MAX {
            return;
        }
        if deadline_ns <= now_ns {
            cx.waker().wake_by_ref();
            return;
        }
        self.sleep.as_mut().reset(Instant::from_std(fleet.instant(deadline_ns)));
        if self.sleep.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}
