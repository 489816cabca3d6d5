//! The connection of a device of MQTT: moves bytes between the socket and its [`Client`].

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::link::Link;
use super::{Client, Encryption};
use crate::simulate::counters::End;
use crate::simulate::driver::{self, Device as _};
use crate::simulate::fleet::{Phase, Step};
use crate::simulate::plan::Plan;

/// Time for the handshakes of TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An unwritten rest that needed more room gives it back afterwards.
const REST_KEPT_BYTES: usize = 4096;

/// A connection with what is not written yet.
pub(in crate::simulate) struct Connection {
    link: Link,
    is_open: bool,
    rest: Vec<u8>,
    rest_start: usize,
}

impl driver::Connection for Connection {
    type Device = Client;
    type Security = Option<Encryption>;

    async fn open(address: SocketAddr, encryption: &Option<Encryption>) -> Result<Self, End> {
        let connected = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            match encryption {
                None => Ok(Box::new(stream) as Link),
                Some(encryption) => encryption.apply(stream).await,
            }
        };
        match timeout(CONNECT_TIMEOUT, connected).await {
            Ok(Ok(link)) => Ok(Self { link, is_open: false, rest: Vec::new(), rest_start: 0 }),
            Ok(Err(error)) => Err(End::Failed(io::Error::kind(&error))),
            Err(_) => Err(End::Failed(io::ErrorKind::TimedOut)),
        }
    }

    fn step(
        &mut self,
        client: &mut Client,
        cx: &mut Context<'_>,
        phase: Phase,
        step: &mut Step<'_>,
        read: &mut [u8],
    ) -> Result<(), End> {
        if !self.is_open {
            self.is_open = true;
            client.open(step);
        }
        self.read(cx, client, step, read)?;
        client.tick(step)?;
        // More would only wait behind what the socket does not take.
        if self.rest.is_empty() {
            client.produce(phase == Phase::Running, step);
        }
        let is_over = client.is_connected() && client.is_settled();
        if phase == Phase::Closing || (phase == Phase::Settling && is_over) {
            client.disconnect(step.out);
            self.write(cx, step.out)?;
            return Err(End::Finished);
        }
        self.write(cx, step.out)
    }

    fn deadline_ns(&mut self, client: &Client, phase: Phase, _now_ns: u64, plan: &Plan) -> u64 {
        // While the socket takes nothing, no schedule of reports matters.
        let fresh = phase == Phase::Running && self.rest.is_empty();
        if fresh && client.is_eager(plan) { 0 } else { client.deadline_ns(fresh, plan) }
    }
}

impl Connection {
    fn read(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client,
        step: &mut Step<'_>,
        read: &mut [u8],
    ) -> Result<(), End> {
        loop {
            let mut buffer = ReadBuf::new(read);
            match Pin::new(&mut self.link).poll_read(cx, &mut buffer) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(error)) => return Err(End::Failed(error.kind())),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Err(End::Closed),
                Poll::Ready(Ok(())) => client.receive(buffer.filled(), step)?,
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
}
