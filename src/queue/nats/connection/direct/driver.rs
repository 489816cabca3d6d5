//! The task of a direct connection: it connects, reads, writes and pings until the connection is lost, and begins anew.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_nats::{Event, ServerError};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Sleep;

use super::connector::{Connector, Opened};
use super::{DirectClient, Socket, Traffic};
use crate::queue::nats::connection::Events;
use crate::queue::nats::wire::{ServerOp, WireError, format, parse};

/// Room for what is read at once: the acknowledgements of some 600 records.
const READ_BYTES: usize = 64 * 1024;

/// Bytes that are read in one turn at most, before those run who take what has come: some 10,000 small messages.
const TURN_BYTES: usize = 1024 * 1024;

/// A buffer that the largest messages have made larger is given back.
const KEPT_BYTES: usize = 1024 * 1024;

/// Unanswered pings after which the connection counts as lost when the next one is due.
const PINGS_MAX: u32 = 2;

/// How long a connection that is left may take to say goodbye.
const GOODBYE: Duration = Duration::from_millis(500);

/// Keeps the client connected; never returns.
pub(in crate::queue::nats::connection) async fn drive<T: Traffic>(
    client: DirectClient,
    mut connector: Connector,
    traffic: Rc<T>,
    events: Events,
    ping_interval: Duration,
) {
    loop {
        let Opened { socket, unread, info } = connector.connect().await;
        client.connected(info, connector.servers());
        events.hear(&Event::Connected);
        let mut running = Running {
            client: &client,
            connector: &mut connector,
            traffic: &*traffic,
            events: &events,
            socket,
            unread,
            heard: Instant::now(),
            ping_interval,
            next_ping: Box::pin(tokio::time::sleep(ping_interval)),
            pings: 0,
        };
        let end = poll_fn(|cx| running.poll(cx)).await;
        let mut socket = running.socket;
        client.lost();
        traffic.lost();
        events.hear(&Event::Disconnected);
        match end {
            // The server gets an end and no reset, so it hands on what it has read.
            Ok(Left) => drop(tokio::time::timeout(GOODBYE, socket.shutdown()).await),
            Err(error) => tracing::debug!(%error, "the connection to NATS has ended"),
        }
    }
}

/// The connection was given up.
struct Left;

struct Running<'a, T> {
    client: &'a DirectClient,
    connector: &'a mut Connector,
    traffic: &'a T,
    events: &'a Events,
    socket: Box<dyn Socket>,
    unread: BytesMut,
    heard: Instant,
    ping_interval: Duration,
    next_ping: Pin<Box<Sleep>>,
    /// Pings without an answer.
    pings: u32,
}

impl<T: Traffic> Running<'_, T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Left>> {
        self.client.shared.driver.replace(Some(cx.waker().clone()));
        if let Err(error) = self.ping(cx).and_then(|()| self.read(cx)).and_then(|()| self.write(cx)) {
            return Poll::Ready(Err(error));
        }
        if self.client.shared.is_leaving.get() { Poll::Ready(Ok(Left)) } else { Poll::Pending }
    }

    fn ping(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.next_ping.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let mut due = self.heard + self.ping_interval;
            if now >= due {
                self.pings += 1;
                if self.pings > PINGS_MAX {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                format::ping(self.client.shared.outgoing.borrow_mut().bytes());
                due = now + self.ping_interval;
            }
            self.next_ping.as_mut().reset(due.into());
        }
        Ok(())
    }

    fn read(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut read = 0;
        // What came with the last bytes of the handshake is there before anything is read.
        let outcome = self.take_all().and_then(|()| {
            loop {
                if read >= TURN_BYTES {
                    cx.waker().wake_by_ref();
                    return Ok(());
                }
                self.unread.reserve(READ_BYTES);
                let received = match pin!(self.socket.read_buf(&mut self.unread)).poll(cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(received) => received?,
                };
                if received == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let total = &self.client.shared.received_bytes;
                total.set(total.get() + received as u64);
                self.heard = Instant::now();
                read += received;
                self.take_all()?;
            }
        });
        // What was read counts, however the connection goes on.
        if read > 0 {
            self.traffic.taken_all(self.heard);
            if self.unread.is_empty() && self.unread.capacity() > KEPT_BYTES {
                self.unread = BytesMut::new();
            }
        }
        outcome
    }

    /// Takes every operation that is complete.
    fn take_all(&mut self) -> io::Result<()> {
        let mut taken = 0;
        let outcome = loop {
            match parse(&self.unread[taken..]) {
                Ok(Some((op, bytes))) => {
                    // Written out, as the operation borrows what was read.
                    let Self { client, connector, traffic, events, pings, heard, .. } = self;
                    match op {
                        ServerOp::Message(message) => {
                            if client.deliver(&message) {
                                traffic.take(&message, *heard);
                            }
                        }
                        ServerOp::Ping => format::pong(client.shared.outgoing.borrow_mut().bytes()),
                        ServerOp::Pong => *pings = pings.saturating_sub(1),
                        ServerOp::Error(text) => events.hear(&Event::ServerError(objection(text))),
                        ServerOp::Info(json) => {
                            if connector.learn(json).is_some_and(|info| info.lame_duck_mode) {
                                events.hear(&Event::LameDuckMode);
                            }
                            client.shared.servers.set(connector.servers());
                        }
                        ServerOp::Ok => {}
                    }
                    taken += bytes;
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(broken(error)),
            }
        };
        self.unread.advance(taken);
        outcome
    }

    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let shared = &self.client.shared;
        loop {
            self.traffic.write();
            let mut outgoing = shared.outgoing.borrow_mut();
            if outgoing.is_empty() {
                break;
            }
            match outgoing.poll_write(Pin::new(&mut self.socket), cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(written) => written?,
            }
        }
        if let Poll::Ready(flushed) = shared.outgoing.borrow_mut().poll_flush(Pin::new(&mut self.socket), cx) {
            flushed?;
            for flush in shared.flushes.borrow_mut().drain(..) {
                // Whoever waited may have given up.
                let _gone = flush.send(());
            }
        }
        Ok(())
    }
}

/// The objection in the type of async-nats, which the log and [`Violation`](super::super::Violation) read.
pub(super) fn objection(text: &str) -> ServerError {
    if text.eq_ignore_ascii_case("authorization violation") {
        ServerError::AuthorizationViolation
    } else {
        ServerError::Other(text.to_owned())
    }
}

pub(super) fn broken(error: WireError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
