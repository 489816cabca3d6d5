//! One device's task: moves datagrams and keeps time for its [`Device`].

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

use super::link::{Arrival, Link};
use super::{Device, Security};
use crate::simulate::fleet::{Fleet, Phase};
use crate::simulate::mqtt::Turn;
use crate::simulate::tally::End;

/// Pauses between attempts grow from here, doubling.
const BACKOFF_FIRST_NS: u64 = 100_000_000;

/// No pause is longer.
const BACKOFF_LAST_NS: u64 = 2_000_000_000;

/// Lives the life of one device until the simulation ends or the device has no hope.
pub(in crate::simulate) async fn drive(fleet: Rc<Fleet>, index: u32, mut device: Device, security: Security) {
    let (mut done, mut attempt, mut earliest_ns) = (false, 0, 0);
    loop {
        let slot_ns = fleet.connect_slot_ns(earliest_ns);
        if !wait(&fleet, index, &device, slot_ns).await {
            break;
        }
        let end = match Link::new(fleet.plan.address, &security).await {
            Ok(link) => {
                let mut line = Line::new(link, &fleet);
                poll_fn(|cx| line.poll(cx, &fleet, index, &mut device, &mut done)).await
            }
            Err(end) => end,
        };
        let mut tally = fleet.tally.borrow_mut();
        tally.count_end(end);
        device.close(&mut tally);
        drop(tally);
        let hopeless = matches!(end, End::Answered(_)) && !device.was_connected();
        if end == End::Finished || hopeless || !fleet.plan.reconnect {
            break;
        }
        let ceiling_ns = (BACKOFF_FIRST_NS << attempt.min(5)).min(BACKOFF_LAST_NS);
        attempt += 1;
        earliest_ns = fleet.now_ns() + ceiling_ns / 2 + fleet.random_below(ceiling_ns / 2);
    }
    if !done {
        fleet.retire();
    }
    fleet.bury();
}

/// Waits for the moment of an attempt. False: there is no reason for one any more.
async fn wait(fleet: &Fleet, index: u32, device: &Device, until_ns: u64) -> bool {
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

/// A link with its timer.
struct Line {
    link: Link,
    is_begun: bool,
    is_live: bool,
    sleep: Pin<Box<Sleep>>,
    armed_ns: u64,
}

impl Line {
    fn new(link: Link, fleet: &Fleet) -> Self {
        let armed_ns = u64::MAX;
        let sleep = Box::pin(sleep_until(Instant::from_std(fleet.instant(armed_ns))));
        Self { link, is_begun: false, is_live: false, sleep, armed_ns }
    }

    /// Takes all there is, lets the device answer; ready when the link is to be left.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        fleet: &Fleet,
        index: u32,
        device: &mut Device,
        done: &mut bool,
    ) -> Poll<End> {
        fleet.register(index, cx.waker());
        let phase = fleet.phase();
        let step = fleet.turn(|turn, read| self.step(cx, phase, device, turn, read));
        if let Err(end) = step {
            if end == End::Finished {
                self.link.close();
            }
            return Poll::Ready(end);
        }
        if !*done && device.is_done(&fleet.plan) {
            *done = true;
            fleet.retire();
        }
        let handshake_ns = self.link.timeout_ns().map(|left_ns| fleet.now_ns() + left_ns);
        let device_ns = if self.is_live { device.deadline_ns(phase == Phase::Running, &fleet.plan) } else { u64::MAX };
        self.arm(cx, fleet, handshake_ns.unwrap_or(device_ns));
        Poll::Pending
    }

    fn step(
        &mut self,
        cx: &mut Context<'_>,
        phase: Phase,
        device: &mut Device,
        turn: &mut Turn<'_>,
        read: &mut [u8],
    ) -> Result<(), End> {
        if !self.is_begun {
            self.is_begun = true;
            self.link.begin()?;
        }
        self.link.tick()?;
        loop {
            if self.link.is_open() {
                if !self.is_live {
                    self.is_live = true;
                    device.open();
                }
                device.produce(phase == Phase::Running, turn)?;
                for datagram in device.take_outgoing() {
                    self.link.send(&datagram)?;
                }
            }
            match self.link.poll_receive(cx, read) {
                Poll::Pending => break,
                Poll::Ready(Err(end)) => return Err(end),
                Poll::Ready(Ok(Arrival::Nothing)) => {}
                Poll::Ready(Ok(Arrival::Message(bytes))) => device.receive(&read[..bytes], turn)?,
            }
        }
        if phase == Phase::Closing || (phase == Phase::Settling && device.is_settled()) {
            return Err(End::Finished);
        }
        Ok(())
    }

    /// Sees to it that the task is woken at the deadline. A deadline that moved away is looked at when the old one has
    /// come, which spares a timer for each message.
    fn arm(&mut self, cx: &mut Context<'_>, fleet: &Fleet, deadline_ns: u64) {
        if self.armed_ns <= deadline_ns && fleet.now_ns() < self.armed_ns && self.armed_ns != u64::MAX {
            return;
        }
        self.armed_ns = deadline_ns;
        if deadline_ns == u64::MAX {
            return;
        }
        self.sleep.as_mut().reset(Instant::from_std(fleet.instant(deadline_ns)));
        if self.sleep.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}
