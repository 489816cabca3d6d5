//! One UDP socket with its endpoint.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::net::UdpSocket;

use crate::protocol::limit::Now;
use crate::protocol::uplink::Availability;
use crate::session::coap::{Context, Endpoint, Event, Observer, Outbox, PeerKey};
use crate::transport::core::Core;
use crate::transport::dtls::Sessions;
use crate::transport::port::Meter;
use crate::transport::traffic::Traffic;

/// A socket of one worker, and who answers on it.
#[derive(Debug)]
pub struct Port {
    pub(super) socket: UdpSocket,
    pub(super) state: RefCell<State>,
    /// Bytes of datagrams.
    pub(super) traffic: Traffic,
}

/// What changes in a port.
#[derive(Debug)]
pub(super) struct State {
    pub(super) endpoint: Endpoint,
    outbox: Outbox,
    /// `None` on a port without DTLS.
    pub(super) sessions: Option<Sessions>,
    /// Sessions over which a device has authenticated since [`Port::send`].
    proven: Vec<PeerKey>,
}

/// The ports of a worker; the endpoint with number `n` is at place `n`.
pub type Ports = Vec<Rc<Port>>;

impl Port {
    /// A port; with `sessions` its datagrams are DTLS.
    pub fn new(socket: UdpSocket, endpoint: Endpoint, sessions: Option<Sessions>) -> Rc<Self> {
        let state = RefCell::new(State { endpoint, outbox: Outbox::default(), sessions, proven: Vec::new() });
        Rc::new(Self { socket, state, traffic: Traffic::default() })
    }

    /// Sends what was left for peers. What the socket does not take is lost, as it may be on the way: the message layer
    /// repeats what matters.
    pub(super) fn send(&self, core: &mut Core) {
        let state = &mut *self.state.borrow_mut();
        match &mut state.sessions {
            None => {
                for (peer, datagram) in state.outbox.iter() {
                    self.send_one(peer, datagram);
                }
            }
            Some(sessions) => {
                for (peer, datagram) in state.outbox.iter() {
                    sessions.send(peer, datagram);
                }
                for peer in state.proven.drain(..) {
                    sessions.prove(core.latest, peer);
                }
                for (peer, datagram) in sessions.sent().iter() {
                    self.send_one(peer, datagram);
                }
                sessions.clear_sent();
                for (peer, outcome) in sessions.take_outcomes() {
                    core.meter.handshake(peer, outcome);
                }
            }
        }
        state.outbox.clear();
    }

    fn send_one(&self, peer: PeerKey, datagram: &[u8]) {
        if let PeerKey::Address(address) = peer {
            // Lost here is as good as lost on the way.
            self.traffic.note_sent(self.socket.try_send_to(datagram, address).unwrap_or(0));
        }
    }
}

impl State {
    /// Runs `act` on the endpoint with everything that it needs.
    pub(super) fn with<R>(
        &mut self,
        core: &mut Core,
        now: Now,
        queue: Availability,
        act: impl FnOnce(&mut Endpoint, &mut Context<'_>) -> R,
    ) -> R {
        let registry = core.registry.clone();
        let mut observer = PortObserver { meter: &mut *core.meter, proven: &mut self.proven };
        let mut ctx = Context {
            now,
            limits: &core.limits,
            load: &mut core.load,
            encoder: &mut core.encoder,
            uplink: &mut *core.uplink,
            queue,
            children: &*registry,
            observer: &mut observer,
            send: &mut self.outbox,
        };
        act(&mut self.endpoint, &mut ctx)
    }
}

struct PortObserver<'a> {
    meter: &'a mut dyn Meter,
    proven: &'a mut Vec<PeerKey>,
}

impl Observer for PortObserver<'_> {
    fn event(&mut self, peer: PeerKey, device: &str, event: Event<'_>) {
        if matches!(event, Event::Granted | Event::Vouched) {
            self.proven.push(peer);
        }
        self.meter.coap(peer, device, event);
    }
}
