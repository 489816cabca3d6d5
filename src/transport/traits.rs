//! Traits by which the device side uses the rest of the bridge.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use crate::protocol::child::Children;
use crate::protocol::limit::Load;
use crate::protocol::network::Source;
use crate::protocol::uplink::Availability;
use crate::session::coap::{self, PeerKey};
use crate::session::identity::{Identity, Lookup};
use crate::session::mqtt::Event;
use crate::session::step::{Peer, Step};
use crate::transport::refused::Refusing;
use crate::transport::traffic::Traffic;

/// Where credentials come from. Used from every worker.
pub trait Registry: Children + Send + Sync {
    /// Looks a device up for whoever speaks as it from `source`.
    fn device<'a>(&'a self, id: &'a str, source: Source) -> Pin<Box<dyn Future<Output = Lookup> + 'a>>;

    /// Whether a device that was found so may still begin a session, as far as is known without asking: same product,
    /// same secret, enabled. It is asked once the session is in the directory, and a change of the registry ends sessions
    /// of the directory once it is in force: so a session that the change forbids is either refused here or ended there.
    /// Must not block.
    fn permits(&self, id: &str, identity: &Identity) -> bool;
}

/// The outcome of a datagram that belongs to no DTLS session, or of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// It belongs to no session, or no handshake needs it.
    Noise,
    /// A first hello: the client is asked for a cookie.
    CookieRequested,
    /// The handshake is finished, and a session begins.
    Finished,
    /// It broke off.
    Failed,
    /// It was not finished in time.
    TimedOut,
    /// It was not begun: too many are half open, or begin, or there are too many sessions.
    Refused,
    /// It was finished, and its session has ended before a device had authenticated over it.
    Unauthenticated,
}

/// Numbers of a worker's peers of CoAP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Peers {
    /// Addresses without DTLS that something is remembered of.
    pub addresses: usize,
    /// DTLS sessions.
    pub sessions: usize,
    /// DTLS handshakes that are half open.
    pub handshakes: usize,
}

/// How an MQTT device is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportKind {
    /// TCP alone.
    Tcp,
    /// TLS.
    Tls,
    /// WebSocket.
    WebSocket,
    /// WebSocket over TLS.
    WebSocketTls,
}

impl TransportKind {
    /// Every way, in order.
    pub const ALL: [TransportKind; 4] =
        [TransportKind::Tcp, TransportKind::Tls, TransportKind::WebSocket, TransportKind::WebSocketTls];
}

/// Connections that are not read, and the time of all of them added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pauses {
    connections: u64,
    since_us: u64,
    total_us: u64,
}

impl Pauses {
    /// Notes how many there are from now on.
    pub fn set(&mut self, connections: usize, now_us: u64) {
        self.total_us += self.connections * now_us.saturating_sub(self.since_us);
        self.since_us = now_us;
        self.connections = connections as u64;
    }

    /// How many there are.
    pub fn connections(self) -> u64 {
        self.connections
    }

    /// Their time until the last [`Pauses::set`], us: two connections for a second are two seconds.
    pub fn total_us(self) -> u64 {
        self.total_us
    }
}

/// Counts and logs what one worker does. Must not block.
pub trait Meter {
    /// A connection was accepted by a listener.
    fn opened(&mut self, kind: TransportKind);
    /// A connection is gone, and whether it had a session.
    fn closed(&mut self, kind: TransportKind, had_session: bool);
    /// The turn of a connection began, so long after it was accepted.
    fn turn_began(&mut self, waited_us: u64);
    /// So many connections wait for their turn; about ten times a second.
    fn waiting(&mut self, connections: usize);
    /// A TLS handshake was finished; a failed one is a refusal.
    fn tls_handshake(&mut self, is_resumed: bool);
    /// A CONNECT was accepted.
    fn connected(&mut self, kind: TransportKind, device: &str, peer: &str);
    /// A connection from there was refused.
    fn refused(&mut self, peer: &str, refusing: &Refusing);
    /// A CONNECT takes over from an older session of the device.
    fn took_over(&mut self, device: &str);
    /// Something happened in the session of that device and client address.
    fn session(&mut self, device: &str, peer: &str, event: Event<'_>);
    /// A command was not carried out because of its reply subject.
    fn reply_subject_refused(&mut self);
    /// At least so many commands were lost on their way to the worker.
    fn commands_lost(&mut self, count: u64);
    /// The worker's load, the state of its queue, and whether commands can come; about ten times a second.
    fn load(&mut self, load: &Load, queue: Availability, commands: Availability);
    /// Something happened on a CoAP port; `device` is empty where it is not known.
    fn coap(&mut self, peer: PeerKey, device: &str, event: coap::Event<'_>);
    /// Something happened before a DTLS session.
    fn dtls_handshake(&mut self, peer: SocketAddr, outcome: Handshake);
    /// The worker's peers of CoAP; about ten times a second.
    fn peers(&mut self, peers: &Peers);
    /// Bytes of MQTT on that way so far; about ten times a second.
    fn mqtt_traffic(&mut self, kind: TransportKind, traffic: &Traffic);
    /// Bytes of CoAP without DTLS and of DTLS so far; about ten times a second.
    fn coap_traffic(&mut self, plain: &Traffic, secured: &Traffic);
    /// How connections are held back; about ten times a second.
    fn pauses(&mut self, pauses: Pauses);
    /// Whether an operator follows a device. Asked for each message, so it must cost next to nothing.
    fn is_followed(&self) -> bool {
        false
    }
    /// A step for those who follow a device. Only while [`Meter::is_followed`].
    fn step(&mut self, _peer: Peer<'_>, _step: &Step<'_>) {}
}

/// Counts and logs nothing.
impl Meter for () {
    fn opened(&mut self, _: TransportKind) {}
    fn closed(&mut self, _: TransportKind, _: bool) {}
    fn turn_began(&mut self, _: u64) {}
    fn waiting(&mut self, _: usize) {}
    fn tls_handshake(&mut self, _: bool) {}
    fn connected(&mut self, _: TransportKind, _: &str, _: &str) {}
    fn refused(&mut self, _: &str, _: &Refusing) {}
    fn took_over(&mut self, _: &str) {}
    fn session(&mut self, _: &str, _: &str, _: Event<'_>) {}
    fn reply_subject_refused(&mut self) {}
    fn commands_lost(&mut self, _: u64) {}
    fn load(&mut self, _: &Load, _: Availability, _: Availability) {}
    fn coap(&mut self, _: PeerKey, _: &str, _: coap::Event<'_>) {}
    fn dtls_handshake(&mut self, _: SocketAddr, _: Handshake) {}
    fn peers(&mut self, _: &Peers) {}
    fn mqtt_traffic(&mut self, _: TransportKind, _: &Traffic) {}
    fn coap_traffic(&mut self, _: &Traffic, _: &Traffic) {}
    fn pauses(&mut self, _: Pauses) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_each_connection_counts() {
        let mut pauses = Pauses::default();
        pauses.set(0, 1_000);
        pauses.set(2, 2_000);
        pauses.set(3, 2_500);
        pauses.set(0, 2_700);
        pauses.set(0, 9_000);
        assert_eq!((pauses.connections(), pauses.total_us()), (0, 2 * 500 + 3 * 200));
    }
}
