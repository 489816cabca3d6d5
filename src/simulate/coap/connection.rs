//! The connection of a device of CoAP: moves datagrams between its link and its [`Client`].

use std::net::SocketAddr;
use std::task::{Context, Poll};

use super::link::{Arrival, Link};
use super::{Client, Security};
use crate::simulate::counters::End;
use crate::simulate::driver::{self, Device as _};
use crate::simulate::fleet::{Phase, Step};
use crate::simulate::plan::Plan;

/// A link, and how far it is.
pub(in crate::simulate) struct Connection {
    link: Link,
    is_begun: bool,
    is_open: bool,
}

impl driver::Connection for Connection {
    type Device = Client;
    type Security = Security;

    async fn open(address: SocketAddr, security: &Security) -> Result<Self, End> {
        let link = Link::new(address, security).await?;
        Ok(Self { link, is_begun: false, is_open: false })
    }

    fn step(
        &mut self,
        client: &mut Client,
        cx: &mut Context<'_>,
        phase: Phase,
        step: &mut Step<'_>,
        read: &mut [u8],
    ) -> Result<(), End> {
        let Self { link, is_begun, is_open } = self;
        if !std::mem::replace(is_begun, true) {
            link.begin()?;
        }
        link.tick()?;
        loop {
            if link.is_open() {
                if !std::mem::replace(is_open, true) {
                    client.open();
                }
                client.produce(phase == Phase::Running, step)?;
                for datagram in client.take_outgoing() {
                    link.send(&datagram)?;
                }
            }
            match link.poll_receive(cx, read) {
                Poll::Pending => break,
                Poll::Ready(Err(end)) => return Err(end),
                Poll::Ready(Ok(Arrival::Nothing)) => {}
                Poll::Ready(Ok(Arrival::Message(bytes))) => client.receive(&read[..bytes], step)?,
            }
        }
        if phase == Phase::Closing || (phase == Phase::Settling && client.is_settled()) {
            link.close();
            return Err(End::Finished);
        }
        Ok(())
    }

    fn deadline_ns(&mut self, client: &Client, phase: Phase, now_ns: u64, plan: &Plan) -> u64 {
        match self.link.timeout_ns() {
            Some(left_ns) => now_ns + left_ns,
            None if self.is_open => client.deadline_ns(phase == Phase::Running, plan),
            None => u64::MAX,
        }
    }
}
