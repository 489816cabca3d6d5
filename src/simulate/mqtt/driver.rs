//! One device's task: moves bytes and keeps time for its [`Client`].

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::client::{Client, Turn};
use super::link::{Encryption, Link};
use crate::simulate::fleet::{Fleet, Phase};
use crate::simulate::tally::End;

/// Time for the handshakes of TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pauses between attempts grow from here, doubling.
const BACKOFF_FIRST_NS: u64 = 100_000_000;
/// No pause is longer.
const BACKOFF_LAST_NS: u64 = 2_000_000_000;
/// An unwritten rest that needed more room gives it back afterwards.
const REST_KEPT_BYTES: usize = 4096;

/// Lives the life of one device until the simulation ends or the device has no hope.
pub(in crate::simulate) async fn drive(
    fleet: Rc<Fleet>,
    index: u32,
    mut client: Client,
    encryption: Option<Encryption>,
) {
    let mut done = false;
    let mut attempt = 0;
    let mut earliest_ns = 0;
    loop {
        let slot_ns = fleet.connect_slot_ns(earliest_ns);
        if !wait(&fleet, index, &client, slot_ns).await {
            break;
        }
        let end = match connect(&fleet, encryption.as_ref()).await {
            Ok(link) => {
                let mut line = Line::new(link, &fleet);
                let end = poll_fn(|cx| line.poll(cx, &fleet, index, &mut client, &mut done)).await;
                if client.is_live() {
                    attempt = 0;
                }
                end
            }
            Err(kind) => End::Failed(kind),
        };
        let mut tally = fleet.tally.borrow_mut();
        tally.count_end(end);
        client.close(&mut tally);
        drop(tally);
        // A device that was never let in and is refused for what it is will not be let in later.
        let hopeless = matches!(end, End::Refused(code) if code != 3) && !client.was_connected();
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

/// Waits for the moment of a connection attempt. False: there is no reason for one any more.
async fn wait(fleet: &Fleet, index: u32, client: &Client, until_ns: u64) -> bool {
    let mut sleep = std::pin::pin!(sleep_until(Instant::from_std(fleet.instant(until_ns))));
    poll_fn(|cx| {
        fleet.register(index, cx.waker());
        match fleet.phase() {
            Phase::Settling if !client.is_settled() => {}
            Phase::Running => {}
            Phase::Settling | Phase::Closing => return Poll::Ready(false),
        }
        sleep.as_mut().poll(cx).map(|()| true)
    })
    .await
}

async fn connect(fleet: &Fleet, encryption: Option<&Encryption>) -> Result<Link, io::ErrorKind> {
    let connected = async {
        let stream = TcpStream::connect(fleet.plan.address).await?;
        stream.set_nodelay(true)?;
        match encryption {
            None => Ok(Link::Tcp(stream)),
            Some(encryption) => encryption.apply(stream).await,
        }
    };
    match timeout(CONNECT_TIMEOUT, connected).await {
        Ok(link) => link.map_err(|error: io::Error| error.kind()),
        Err(_) => Err(io::ErrorKind::TimedOut),
    }
}

/// A connection with what is not written yet.
struct Line {
    link: Link,
    sleep: Pin<Box<Sleep>>,
    armed_ns: u64,
    opened: bool,
    rest: Vec<u8>,
    rest_start: usize,
}

impl Line {
    fn new(link: Link, fleet: &Fleet) -> Self {
        let armed_ns = u64::MAX;
        let sleep = Box::pin(sleep_until(Instant::from_std(fleet.instant(armed_ns))));
        Self { link, sleep, armed_ns, opened: false, rest: Vec::new(), rest_start: 0 }
    }

    /// Reads all there is, lets the client answer, writes all that fits; ready when the connection is to be closed.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        fleet: &Fleet,
        index: u32,
        client: &mut Client,
        done: &mut bool,
    ) -> Poll<End> {
        fleet.register(index, cx.waker());
        let phase = fleet.phase();
        let end = fleet.turn(|turn, read| {
            let end = self.step(cx, phase, client, turn, read);
            if end.is_err() && phase == Phase::Closing {
                return Err(End::Finished);
            }
            end
        });
        if let Err(end) = end {
            return Poll::Ready(end);
        }
        if !*done && client.is_done(&fleet.plan) {
            *done = true;
            fleet.retire();
        }
        // While the socket takes nothing, no schedule of reports matters.
        let fresh = phase == Phase::Running && self.rest.is_empty();
        self.arm(cx, fleet, client.deadline_ns(fresh, &fleet.plan));
        if fresh && client.is_eager(&fleet.plan) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn step(
        &mut self,
        cx: &mut Context<'_>,
        phase: Phase,
        client: &mut Client,
        turn: &mut Turn<'_>,
        read: &mut [u8],
    ) -> Result<(), End> {
        if !self.opened {
            self.opened = true;
            client.open(turn);
        }
        self.read(cx, client, turn, read)?;
        client.tick(turn)?;
        // More would only wait behind what the socket does not take.
        if self.rest.is_empty() {
            client.produce(phase == Phase::Running, turn);
        }
        if phase == Phase::Closing || (phase == Phase::Settling && client.is_live() && client.is_settled()) {
            client.disconnect(turn.out);
            self.write(cx, turn.out)?;
            return Err(End::Finished);
        }
        self.write(cx, turn.out)
    }

    fn read(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        turn: &mut Turn<'_>,
        read: &mut [u8],
    ) -> Result<(), End> {
        loop {
            let mut buffer = ReadBuf::new(read);
            match Pin::new(&mut self.link).poll_read(cx, &mut buffer) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(error)) => return Err(End::Failed(error.kind())),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Err(End::Closed),
                Poll::Ready(Ok(())) => client.receive(buffer.filled(), turn)?,
            }
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, fresh: &[u8]) -> Result<(), End> {
        let mut fresh = fresh;
        loop {
            let waiting = &self.rest[self.rest_start..];
            let next = if waiting.is_empty() { fresh } else { waiting };
            if next.is_empty() {
                break;
            }
            match Pin::new(&mut self.link).poll_write(cx, next) {
                Poll::Pending => break,
                Poll::Ready(Err(error)) => return Err(End::Failed(error.kind())),
                Poll::Ready(Ok(0)) => return Err(End::Closed),
                Poll::Ready(Ok(written)) if waiting.is_empty() => fresh = &fresh[written..],
                Poll::Ready(Ok(written)) => self.rest_start += written,
            }
        }
        // What TLS holds back goes out when the socket takes it, which wakes the task.
        if let Poll::Ready(Err(error)) = Pin::new(&mut self.link).poll_flush(cx) {
            return Err(End::Failed(error.kind()));
        }
        if self.rest_start == self.rest.len() {
            self.rest.clear();
            self.rest.shrink_to(REST_KEPT_BYTES);
            self.rest_start = 0;
        }
        self.rest.extend_from_slice(fresh);
        Ok(())
    }

    /// Sees to it that the task is woken at the deadline. A deadline that moved away is looked at when the old one has
    /// come, which spares a timer for each message.
    fn arm(&mut self, cx: &mut Context<'_>, fleet: &Fleet, deadline_ns: u64) {
        if self.armed_ns <= deadline_ns && fleet.now_ns() < self.armed_ns && self.armed_ns != u64::MAX {
            return;
        }
        if deadline_ns == u64::MAX {
            self.armed_ns = u64::MAX;
            return;
        }
        self.armed_ns = deadline_ns;
        self.sleep.as_mut().reset(Instant::from_std(fleet.instant(deadline_ns)));
        if self.sleep.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}
