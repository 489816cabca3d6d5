//! The rest of a worker's process: a registry that knows every device, and a meter that nobody reads.

use std::future::ready;
use std::net::SocketAddr;
use std::pin::Pin;

use jetlinks_bridge::protocol::child::{Child, Children};
use jetlinks_bridge::protocol::limit::Load;
use jetlinks_bridge::protocol::network::Source;
use jetlinks_bridge::protocol::uplink::Availability;
use jetlinks_bridge::session::coap::{self, PeerKey};
use jetlinks_bridge::session::mqtt::Event;
use jetlinks_bridge::transport::{
    Handshake, Identity, Lookup, Meter, Pauses, Peers, Refused, Registry, Traffic, TransportKind,
};

/// Permits every device. Credentials are looked at before.
#[derive(Debug)]
pub(crate) struct Everything;

impl Children for Everything {
    fn child(&self, _: &str) -> Child {
        Child::Unknown
    }
}

impl Registry for Everything {
    fn device<'a>(&'a self, _: &'a str, _: Source) -> Pin<Box<dyn Future<Output = Lookup> + 'a>> {
        Box::pin(ready(Lookup::Away))
    }

    fn permits(&self, _: &str, _: &Identity) -> bool {
        true
    }
}

/// Counts nothing.
#[derive(Debug)]
pub(crate) struct Nobody;

impl Meter for Nobody {
    fn opened(&mut self, _: TransportKind) {}
    fn closed(&mut self, _: TransportKind, _: bool) {}
    fn turn_began(&mut self, _: u64) {}
    fn waiting(&mut self, _: usize) {}
    fn connected(&mut self, _: TransportKind, _: &str, _: &str) {}
    fn refused(&mut self, _: &str, _: &str, _: Refused) {}
    fn took_over(&mut self, _: &str) {}
    fn session(&mut self, _: &str, _: &str, _: Event<'_>) {}
    fn reply_subject_refused(&mut self) {}
    fn commands_lost(&mut self, _: u64) {}
    fn load(&mut self, _: &Load, _: Availability, _: Availability) {}
    fn coap(&mut self, _: PeerKey, _: &str, _: coap::Event<'_>) {}
    fn handshake(&mut self, _: SocketAddr, _: Handshake) {}
    fn peers(&mut self, _: &Peers) {}
    fn mqtt_traffic(&mut self, _: TransportKind, _: &Traffic) {}
    fn coap_traffic(&mut self, _: &Traffic, _: &Traffic) {}
    fn pauses(&mut self, _: Pauses) {}
}
