//! A device of CoAP with its link: moves datagrams between the socket and its [`Client`].

use std::net::SocketAddr;
use std::task::{Context, Poll};

use super::link::{Arrival, Link};
use super::{Client, Security};
use crate::simulate::counters::{Counters, End};
use crate::simulate::driver;
use crate::simulate::fleet::{Phase, Step};
use crate::simulate::plan::Plan;

/// A simulated device.
#[derive(Debug)]
pub(in crate::simulate) struct Device {
    client: Client,
    security: Security,
}

impl Device {
    /// A device that proves in this way who it is.
    pub(in crate::simulate) fn new(client: Client, security: Security) -> Self {
        Self { client, security }
    }
}

/// A link, and how far it is.
pub(in crate::simulate) struct Connection {
    link: Link,
    is_begun: bool,
    is_open: bool,
}

impl driver::Device for Device {
    type Connection = Connection;

    async fn connect(&mut self, address: SocketAddr) -> Result<Connection, End> {
        let link = Link::new(address, &self.security).await?;
        Ok(Connection { link, is_begun: false, is_open: false })
    }

    fn step(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
        phase: Phase,
        step: &mut Step<'_>,
        read: &mut [u8],
    ) -> Result<(), End> {
        let Connection { link, is_begun, is_open } = connection;
        if !std::mem::replace(is_begun, true) {
            link.begin()?;
        }
        link.tick()?;
        loop {
            if link.is_open() {
                if !std::mem::replace(is_open, true) {
                    self.client.open();
                }
                self.client.produce(phase == Phase::Running, step)?;
                for datagram in self.client.take_outgoing() {
                    link.send(&datagram)?;
                }
            }
            match link.poll_receive(cx, read) {
                Poll::Pending => break,
                Poll::Ready(Err(end)) => return Err(end),
                Poll::Ready(Ok(Arrival::Nothing)) => {}
                Poll::Ready(Ok(Arrival::Message(bytes))) => self.client.receive(&read[..bytes], step)?,
            }
        }
        if phase == Phase::Closing || (phase == Phase::Settling && self.client.is_settled()) {
            link.close();
            return Err(End::Finished);
        }
        Ok(())
    }

    fn deadline_ns(&self, connection: &mut Connection, phase: Phase, now_ns: u64, plan: &Plan) -> u64 {
        match connection.link.timeout_ns() {
            Some(left_ns) => now_ns + left_ns,
            None if connection.is_open => self.client.deadline_ns(phase == Phase::Running, plan),
            None => u64::MAX,
        }
    }

    fn close(&mut self, counters: &mut Counters) {
        self.client.close(counters);
    }

    fn is_connected(&self) -> bool {
        self.client.is_connected()
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
        matches!(end, End::Answered(_))
    }
}
