//! What a worker does with its ports besides reading them.

use std::time::Duration;

use tokio::time::{interval, timeout};

use crate::protocol::limit::Now;
use crate::protocol::uplink::{Refusal, Token};
use crate::transport::port::Peers;
use crate::transport::traffic::Traffic;
use crate::transport::worker::Worker;

/// How long a drain waits for devices to acknowledge answers of their own; what is in the queue is there either way.
const FAREWELL: Duration = Duration::from_secs(3);

impl Worker {
    /// Applies a receipt for the endpoint of that number; [`Worker::send_ports`] must follow.
    pub(in crate::transport) fn port_receipt(&self, now: Now, number: u8, token: Token, stored: bool) {
        let Some(port) = self.ports().get(usize::from(number)) else { return };
        let core = &mut *self.core.borrow_mut();
        let queue = self.availability.get();
        port.state.borrow_mut().with(core, now, queue, |endpoint, ctx| endpoint.receipt(token, stored, ctx));
    }

    /// Replaces a record of the endpoint of that number, which the queue will never store; [`Worker::send_ports`] must
    /// follow.
    pub(in crate::transport) fn port_refused(&self, now: Now, number: u8, token: Token, refusal: &Refusal) {
        let Some(port) = self.ports().get(usize::from(number)) else { return };
        let core = &mut *self.core.borrow_mut();
        let queue = self.availability.get();
        port.state.borrow_mut().with(core, now, queue, |endpoint, ctx| endpoint.refused(token, refusal, ctx));
    }

    /// Sends what receipts have left.
    pub(in crate::transport) fn send_ports(&self) {
        let core = &mut *self.core.borrow_mut();
        self.ports().iter().for_each(|port| port.send(core));
    }

    /// Hands over once more what is not stored: the queue takes records again.
    pub(in crate::transport) fn resend_ports(&self, now: Now) {
        let core = &mut *self.core.borrow_mut();
        let queue = self.availability.get();
        for port in self.ports() {
            port.state.borrow_mut().with(core, now, queue, |endpoint, ctx| endpoint.resend(ctx));
        }
    }

    /// Looks at the deadlines of the ports.
    pub(in crate::transport) fn tick_ports(&self, now: Now) {
        if self.ports().is_empty() {
            return;
        }
        let queue = self.queue();
        let core = &mut *self.core.borrow_mut();
        let mut peers = Peers::default();
        let (plain, secured) = (Traffic::default(), Traffic::default());
        for port in self.ports() {
            let state = &mut *port.state.borrow_mut();
            let mut sessions = state.sessions.take();
            let ended = sessions.as_mut().map(|sessions| {
                sessions.tick(now);
                sessions.take_ended()
            });
            state.with(core, now, queue, |endpoint, ctx| {
                for peer in ended.into_iter().flatten() {
                    endpoint.forget(peer, ctx);
                }
                endpoint.tick(ctx);
            });
            match &sessions {
                Some(sessions) => {
                    secured.add(&port.traffic);
                    peers.sessions += sessions.open();
                    peers.handshakes += sessions.half_open();
                }
                None => {
                    plain.add(&port.traffic);
                    peers.addresses += state.endpoint.held().peers;
                }
            }
            state.sessions = sessions;
        }
        core.meter.peers(&peers);
        core.meter.coap_traffic(&plain, &secured);
        self.ports().iter().for_each(|port| port.send(core));
    }

    /// Answers every further request with 5.03.
    pub(in crate::transport) fn drain_ports(&self) {
        for port in self.ports() {
            port.state.borrow_mut().endpoint.drain();
        }
    }

    /// Requests whose answer the queue or the registry holds up.
    pub(in crate::transport) fn unanswered(&self) -> usize {
        self.ports().iter().map(|port| port.state.borrow().endpoint.unanswered()).sum()
    }

    /// Waits until the last answers are acknowledged, as far as their devices are still there.
    pub(in crate::transport) async fn say_farewell(&self) {
        let acknowledged = async {
            let mut look = interval(Duration::from_millis(10));
            while self.ports().iter().any(|port| port.state.borrow().endpoint.in_flight() > 0) {
                look.tick().await;
            }
        };
        // What is in the queue is there whether the device has heard of it or not.
        let _unheard = timeout(FAREWELL, acknowledged).await;
    }

    /// Tells the peers of DTLS sessions that they end, so that they begin anew elsewhere without a time-out.
    pub(in crate::transport) fn close_ports(&self) {
        for port in self.ports() {
            if let Some(sessions) = &mut port.state.borrow_mut().sessions {
                sessions.close();
            }
        }
        self.send_ports();
    }
}
