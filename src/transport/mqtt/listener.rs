//! Accepts connections and takes each to its session.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::spawn_local;

use super::handshake::{self, Authenticated, Received};
use super::serving::{Opened, Serving};
use super::{ListenerProtocol, Listening, connection};
use crate::codec::mqtt::encode;
use crate::protocol::network::Network;
use crate::protocol::uplink::SlotId;
use crate::transport::bucket::Bucket;
use crate::transport::connection_limit::{ConnectionPermit, SocketPermit};
use crate::transport::refused::{Refused, Refusing};
use crate::transport::socket::ByteStream as _;
use crate::transport::traits::TransportKind;
use crate::transport::worker::Worker;

/// Connections that are accepted in a second at least, twice as many as wait in the backlog of the system: there, nobody can
/// be told from anybody else.
const ACCEPTS_PER_SECOND: u64 = 8_192;

/// Pause after the system refused a connection: it is out of descriptors or memory, and asking again at once does not
/// help it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the future is dropped.
pub async fn accept(worker: Rc<Worker>, listening: Listening) {
    let Listening { listener, protocol } = listening;
    let clock = worker.clock;
    let per_second = worker.settings.connects_per_second.max(ACCEPTS_PER_SECOND);
    let mut bucket = Bucket::new(per_second, clock.now().us);
    loop {
        if let Err(wait_us) = bucket.take(clock.now().us) {
            tokio::time::sleep(Duration::from_micros(wait_us)).await;
            continue;
        }
        match listener.accept().await {
            // A listener of IPv6 sees IPv4 addresses as mapped ones.
            Ok((socket, peer)) => match SocketPermit::take(&worker.connection_limit) {
                Some(socket_permit) => {
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    drop(spawn_local(serve(worker.clone(), protocol.clone(), socket_permit, socket, peer)))
                }
                // Closed before another one is accepted: the last descriptors belong to probes and queues.
                None => {
                    drop(socket);
                    let mut core = worker.core.borrow_mut();
                    core.meter().refused(&peer.to_string(), &Refusing::unnamed(Refused::ConnectionLimit));
                }
            },
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves a connection until it is closed; its permits are given back after that.
fn serve(
    worker: Rc<Worker>,
    protocol: ListenerProtocol,
    socket_permit: SocketPermit,
    socket: TcpStream,
    peer: SocketAddr,
) -> Serving {
    worker.core.borrow_mut().meter().opened(protocol.kind());
    Serving::Opening(Box::pin(open(worker, protocol, socket_permit, socket, peer)))
}

/// Takes a connection to its session; `None`: it has none, and is closed.
async fn open(
    worker: Rc<Worker>,
    protocol: ListenerProtocol,
    socket_permit: SocketPermit,
    socket: TcpStream,
    peer: SocketAddr,
) -> Option<Opened> {
    // Kept until its refusal is counted: whoever sees the connection closed may count on that.
    let mut socket = Some(socket);
    // In an allocation for each part: those of at most 1 KiB are used again for the next connection, and leave no holes.
    let receiving = Box::pin(handshake::receive(&worker, &protocol, &socket_permit, &mut socket, peer));
    let session = match receiving.await {
        Ok(received) => Box::pin(begin(&worker, protocol.kind(), received)).await,
        Err((peer, reason)) => {
            worker.core.borrow_mut().meter().refused(&peer.to_string(), &Refusing::unnamed(reason));
            if reason.is_fault() {
                worker.connects.note(Network::of(peer.ip()), false);
            }
            None
        }
    };
    let kind = protocol.kind();
    if let Some((session, permit)) = session {
        return Some(Opened { worker, session, kind, permit, socket_permit });
    }
    drop((socket, socket_permit));
    worker.core.borrow_mut().meter().closed(kind, false);
    None
}

/// Takes a connection from its CONNECT to its session; `None`: it has none, and is closed.
async fn begin(worker: &Worker, kind: TransportKind, received: Received) -> Option<(SlotId, ConnectionPermit)> {
    let Received { peer, network, mut socket, permit, packet } = received;
    let certificate = socket.client_certificate();
    let claimed = match handshake::authenticate(worker, packet, &peer, certificate, permit.admission).await {
        Ok(Authenticated { connect, rest, room }) => {
            let (device, product) = (connect.device.clone(), connect.identity.product.clone());
            let claimed = worker.core.borrow_mut().claim(worker.clock.now(), connect);
            match claimed {
                Ok(session) => Ok((session, device, rest, room)),
                Err(reason) => {
                    let device = device.to_string();
                    Err(Refusing { device, product: Some(product), ..Refusing::unnamed(reason) })
                }
            }
        }
        Err(refusing) => Err(refusing),
    };
    match claimed {
        Ok((session, device, rest, room)) => {
            worker.connects.note(network, true);
            worker.attach(session, &device).await;
            let begins = worker.core.borrow_mut().begin(worker.clock.now(), session, kind, socket, rest);
            drop(room);
            begins.then_some((session, permit))
        }
        Err(refusing) => {
            if let Some(code) = refusing.reason.code() {
                // A client that does not take its refusal is closed without it.
                let _unread = socket.try_write(&encode::connack(code));
            }
            // Behind the answer, which so takes no part in saying why. Before the end of the connection: whoever sees that may
            // count on it.
            worker.core.borrow_mut().meter().refused(&peer, &refusing);
            if refusing.reason.is_fault() {
                worker.connects.note(network, false);
            }
            // Whoever sees the connection closed may count on its room.
            drop(permit);
            connection::close(&mut socket, connection::FAREWELL).await;
            None
        }
    }
}
