//! The ports of CoAP: datagrams in, look-ups, receipts, deadlines, datagrams out.

use std::net::SocketAddr;

use super::WorkerCore;
use crate::protocol::limit::Now;
use crate::protocol::network::Source;
use crate::protocol::uplink::{Availability, DeliveryId, RecordRefusal};
use crate::session::coap::{Context, Endpoint, Parked};
use crate::session::identity::Lookup;
use crate::transport::socket::ByteStream;
use crate::transport::worker::coap_port::PortTotals;

impl<S: ByteStream> WorkerCore<S> {
    /// Begins a turn in which datagrams are taken in: the state of the queue that applies to all of them.
    pub fn begin_datagrams(&mut self, now: Now) -> Availability {
        self.environment.set_now(now);
        self.queue(now)
    }

    /// Takes in a datagram of the port with that number, in the turn that [`WorkerCore::begin_datagrams`] began. Requests whose
    /// devices are to be looked up are added to `parked`.
    pub fn datagram(
        &mut self,
        queue: Availability,
        number: usize,
        from: SocketAddr,
        datagram: &[u8],
        parked: &mut Vec<(Parked, Source)>,
    ) {
        if let Some(port) = self.ports.get_mut(number) {
            port.take(&mut self.environment, queue, from, datagram, parked);
        }
    }

    /// Bytes of requests of that port which wait for the registry.
    pub fn parked_bytes(&self, number: usize) -> usize {
        self.ports.get(number).map_or(0, |port| port.endpoint.parked_bytes())
    }

    /// Goes on with requests whose devices were looked up, at the end of the turn or later. Datagrams are left to be sent.
    pub fn looked_up(&mut self, now: Now, number: usize, answers: &[(Parked, Lookup)]) {
        self.environment.set_now(now);
        for (parked, lookup) in answers {
            self.with_port(number, |endpoint, ctx| endpoint.device(parked, lookup, ctx));
        }
    }

    /// Takes out the datagrams that are left to be sent by that port; `send` gives the number of bytes that the socket
    /// took.
    pub fn send_datagrams(&mut self, number: usize, send: impl FnMut(SocketAddr, &[u8]) -> usize) {
        if let Some(port) = self.ports.get_mut(number) {
            port.send(&mut self.environment, send);
        }
    }

    /// Ends a turn: what was handed to the queue leaves now.
    pub fn flush(&mut self) {
        self.environment.uplink.flush();
    }

    /// Applies a receipt for the endpoint of that number.
    pub(super) fn port_receipt(&mut self, number: u8, id: DeliveryId, stored: bool) {
        self.with_port(number.into(), |endpoint, ctx| endpoint.receipt(id, stored, ctx));
    }

    /// Replaces a record of the endpoint of that number, which the queue will never store.
    pub(super) fn port_refused(&mut self, number: u8, id: DeliveryId, refusal: &RecordRefusal) {
        self.with_port(number.into(), |endpoint, ctx| endpoint.refused(id, refusal, ctx));
    }

    /// Hands over once more what is not stored: the queue takes records again.
    pub(super) fn resend_ports(&mut self) {
        for number in 0..self.ports.len() {
            self.with_port(number, |endpoint, ctx| endpoint.resend(ctx));
        }
    }

    /// Looks at the deadlines of the ports.
    pub(super) fn tick_ports(&mut self) {
        if self.ports.is_empty() {
            return;
        }
        let mut totals = PortTotals::default();
        for port in &mut self.ports {
            port.tick(&mut self.environment, &mut totals);
        }
        self.environment.meter.peers(&totals.peers);
        self.environment.meter.coap_traffic(&totals.plain, &totals.secured);
    }

    fn with_port(&mut self, number: usize, act: impl FnOnce(&mut Endpoint, &mut Context<'_>)) {
        if let Some(port) = self.ports.get_mut(number) {
            port.with(&mut self.environment, act);
        }
    }
}
