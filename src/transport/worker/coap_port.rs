//! One port of CoAP without its UDP socket: the endpoint, the DTLS sessions below it, and the datagrams to be sent.

use std::net::SocketAddr;

use crate::protocol::network::{Network, Protocol, Source};
use crate::protocol::uplink::Availability;
use crate::session::coap::{Context, Endpoint, Event, Observer, Outbox, Parked, PeerKey};
use crate::session::step::{Peer, Step};
use crate::transport::dtls::Sessions;
use crate::transport::environment::Environment;
use crate::transport::traffic::Traffic;
use crate::transport::traits::{Meter, Peers};

/// One CoAP port of a worker, without I/O.
#[derive(Debug)]
pub struct CoapPort {
    pub(super) endpoint: Endpoint,
    outbox: Outbox,
    /// `None` on a port without DTLS.
    sessions: Option<Sessions>,
    /// Sessions over which a device has authenticated since [`CoapPort::send`].
    proven: Vec<PeerKey>,
    /// Bytes of datagrams.
    traffic: Traffic,
    /// Sender of the datagram that is being taken in.
    from: Option<SocketAddr>,
}

/// Numbers of all ports of a worker.
#[derive(Debug, Default)]
pub(super) struct PortTotals {
    pub(super) peers: Peers,
    pub(super) plain: Traffic,
    pub(super) secured: Traffic,
}

impl CoapPort {
    /// A port; with `sessions` its datagrams are DTLS.
    pub fn new(endpoint: Endpoint, sessions: Option<Sessions>) -> Self {
        Self {
            endpoint,
            outbox: Outbox::default(),
            sessions,
            proven: Vec::new(),
            traffic: Traffic::default(),
            from: None,
        }
    }

    /// Runs `act` with everything that an endpoint needs, at the time of the batch of work under way.
    pub(super) fn with<R>(
        &mut self,
        environment: &mut Environment,
        act: impl FnOnce(&mut Endpoint, &mut Context<'_>) -> R,
    ) -> R {
        let is_followed = environment.meter.is_followed();
        let mut observer = PortObserver {
            meter: &mut *environment.meter,
            proven: &mut self.proven,
            sessions: self.sessions.as_ref(),
            from: self.from,
        };
        let mut ctx = Context {
            now: environment.latest,
            limits: &environment.limits,
            load: &mut environment.load,
            encoder: &mut environment.encoder,
            uplink: &mut *environment.uplink,
            children: &*environment.registry,
            observer: &mut observer,
            is_followed,
            send: &mut self.outbox,
        };
        act(&mut self.endpoint, &mut ctx)
    }

    /// Takes a datagram in. Requests whose devices are to be looked up are added to `parked`.
    pub(super) fn take(
        &mut self,
        environment: &mut Environment,
        queue: Availability,
        from: SocketAddr,
        datagram: &[u8],
        parked: &mut Vec<(Parked, Source)>,
    ) {
        self.traffic.note_received(datagram.len());
        let network = Network::of(from.ip());
        // The sessions are moved out, so that what they decrypt can be lent to the endpoint.
        let Some(mut sessions) = self.sessions.take() else {
            let (peer, source) = (PeerKey::Address(from), Source { protocol: Protocol::Coap, network });
            let begun = self.with(environment, |endpoint, ctx| endpoint.feed(peer, datagram, queue, ctx));
            parked.extend(begun.map(|parked| (parked, source)));
            return;
        };
        let source = Source { protocol: Protocol::Dtls, network };
        sessions.feed(environment.latest, from, datagram);
        self.from = Some(from);
        self.with(environment, |endpoint, ctx| {
            for (peer, plain) in sessions.received().iter() {
                parked.extend(endpoint.feed(peer, plain, queue, ctx).map(|parked| (parked, source)));
            }
            for peer in sessions.take_ended() {
                endpoint.forget(peer, ctx);
            }
        });
        self.from = None;
        sessions.clear_received();
        self.sessions = Some(sessions);
    }

    /// Looks at the deadlines of sessions and requests, and adds its numbers to those of the other ports.
    pub(super) fn tick(&mut self, environment: &mut Environment, totals: &mut PortTotals) {
        let mut sessions = self.sessions.take();
        let ended = sessions.as_mut().map(|sessions| {
            sessions.tick(environment.latest);
            sessions.take_ended()
        });
        self.with(environment, |endpoint, ctx| {
            for peer in ended.into_iter().flatten() {
                endpoint.forget(peer, ctx);
            }
            endpoint.tick(ctx);
        });
        match &sessions {
            Some(sessions) => {
                totals.secured.add(&self.traffic);
                totals.peers.sessions += sessions.open();
                totals.peers.handshakes += sessions.half_open();
            }
            None => {
                totals.plain.add(&self.traffic);
                totals.peers.addresses += self.endpoint.held().peers;
            }
        }
        self.sessions = sessions;
    }

    /// Tells the peers of DTLS sessions that they end, so that they begin anew elsewhere without a time-out.
    pub(super) fn close(&mut self) {
        if let Some(sessions) = &mut self.sessions {
            sessions.close();
        }
    }

    /// Sends what was left for peers by `send`, which gives the number of bytes that the socket took. A datagram that it
    /// does not take is lost, as it may be on the way: the message layer repeats what matters.
    pub(super) fn send(&mut self, environment: &mut Environment, mut send: impl FnMut(SocketAddr, &[u8]) -> usize) {
        let traffic = &self.traffic;
        let mut send = |peer: PeerKey, datagram: &[u8]| {
            if let PeerKey::Address(address) = peer {
                traffic.note_sent(send(address, datagram));
            }
        };
        match &mut self.sessions {
            None => self.outbox.iter().for_each(|(peer, datagram)| send(peer, datagram)),
            Some(sessions) => {
                for (peer, datagram) in self.outbox.iter() {
                    sessions.send(peer, datagram);
                }
                for peer in self.proven.drain(..) {
                    sessions.prove(environment.latest, peer);
                }
                sessions.sent().iter().for_each(|(peer, datagram)| send(peer, datagram));
                sessions.clear_sent();
                for (peer, outcome) in sessions.take_outcomes() {
                    environment.meter.dtls_handshake(peer, outcome);
                }
            }
        }
        self.outbox.clear();
    }
}

struct PortObserver<'a> {
    meter: &'a mut dyn Meter,
    proven: &'a mut Vec<PeerKey>,
    /// `None` on a port without DTLS, and while a datagram is taken in.
    sessions: Option<&'a Sessions>,
    from: Option<SocketAddr>,
}

impl Observer for PortObserver<'_> {
    fn event(&mut self, peer: PeerKey, device: &str, event: Event<'_>) {
        if matches!(event, Event::TokenIssued | Event::TokenAccepted) {
            self.proven.push(peer);
        }
        self.meter.coap(peer, device, event);
    }

    fn step(&mut self, peer: PeerKey, step: &Step<'_>) {
        let address = match peer {
            PeerKey::Address(address) => Some(address),
            PeerKey::Session(id) => self.from.or_else(|| self.sessions?.address(id)),
        };
        self.meter.step(Peer::Address(address), step);
    }
}
