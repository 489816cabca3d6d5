//! A device of MQTT with its connection: moves bytes between the socket and its [`Client`].

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::link::Link;
use super::{Client, Encryption};
use crate::simulate::counters::{Counters, End};
use crate::simulate::driver;
use crate::simulate::fleet::{Phase, Step};
use crate::simulate::plan::Plan;

/// Time for the handshakes of TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An unwritten rest that needed more room gives it back afterwards.
const REST_KEPT_BYTES: usize = 4096;

/// A simulated device.
pub(in crate::simulate) struct Device {
    client: Client,
    encryption: Option<Encryption>,
}

impl Device {
    /// A device that connects with TLS where there is an encryption.
    pub(in crate::simulate) fn new(client: Client, encryption: Option<Encryption>) -> Self {
        Self { client, encryption }
    }
}

/// A connection with what is not written yet.
pub(in crate::simulate) struct Connection {
    link: Link,
    is_open: bool,
    rest: Vec<u8>,
    rest_start: usize,
}

impl driver::Device for Device {
    type Connection = Connection;

    async fn connect(&mut self, address: SocketAddr) -> Result<Connection, End> {
        let connected = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            match &self.encryption {
                None => Ok(Link::Tcp(stream)),
                Some(encryption) => encryption.apply(stream).await,
            }
        };
        match timeout(CONNECT_TIMEOUT, connected).await {
            Ok(Ok(link)) => Ok(Connection { link, is_open: false, rest: Vec::new(), rest_start: 0 }),
            Ok(Err(error)) => Err(End::Failed(io::Error::kind(&error))),
            Err(_) => Err(End::Failed(io::ErrorKind::TimedOut)),
        }
    }

    fn step(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
        phase: Phase,
        step: &mut Step<'_>,
        read: &mut [u8],
    ) -> Result<(), End> {
        if !connection.is_open {
            connection.is_open = true;
            self.client.open(step);
        }
        connection.read(cx, &mut self.client, step, read)?;
        self.client.tick(step)?;
        // More would only wait behind what the socket does not take.
        if connection.rest.is_empty() {
            self.client.produce(phase == Phase::Running, step);
        }
        let is_over = self.client.is_live() && self.client.is_settled();
        if phase == Phase::Closing || (phase == Phase::Settling && is_over) {
            self.client.disconnect(step.out);
            connection.write(cx, step.out)?;
            return Err(End::Finished);
        }
        connection.write(cx, step.out)
    }

    fn deadline_ns(&self, connection: &mut Connection, phase: Phase, _now_ns: u64, plan: &Plan) -> u64 {
        // While the socket takes nothing, no schedule of reports matters.
        let fresh = phase == Phase::Running && connection.rest.is_empty();
        if fresh && self.client.is_eager(plan) { 0 } else { self.client.deadline_ns(fresh, plan) }
    }

    fn close(&mut self, counters: &mut Counters) {
        self.client.close(counters);
    }

    fn is_connected(&self) -> bool {
        self.client.is_live()
    }

    fn was_connected(&self) -> bool {
        self.client.was_connected()
    }

    fn is_settled(&self) -> bool {
        self.client.is_settled()
    }

    fn is_done(&self, plan: &Plan) -> bool {
        self.client.is_done(plan)
    }

    fn is_refusal(end: End) -> bool {
        matches!(end, End::Refused(code) if code != 3)
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
