//! From an accepted connection to a CONNECT that may have a session.

use std::cell::Cell;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::ListenerProtocol;
use super::opening;
use crate::codec::mqtt::{self, Frame, Malformed, Packet};
use crate::protocol::auth::{self, Attempt, Expected, Refusal};
use crate::protocol::id::DeviceId;
use crate::protocol::limit::Limits;
use crate::protocol::network::{Network, Protocol, Source};
use crate::protocol::uplink::Availability;
use crate::session::identity::Lookup;
use crate::session::mqtt::StoredWill;
use crate::transport::connection_limit::{Admission, ConnectionPermit, SocketPermit};
use crate::transport::connects::Turn;
use crate::transport::refused::{FirstBytes, Refused, Refusing};
use crate::transport::room::RoomPermit;
use crate::transport::socket::{Socket, Stream};
use crate::transport::tls;
use crate::transport::worker::{Connect, Worker};

/// Room for a CONNECT of usual size, in bytes, so that one read takes all of it: the ids of a device, its user name and password.
const CONNECT_BYTES: usize = 512;

/// A CONNECT that was authenticated.
pub struct Authenticated {
    /// The CONNECT.
    pub connect: Connect,
    /// Bytes that followed it.
    pub rest: Vec<u8>,
    /// The room that a large CONNECT takes.
    pub room: Option<RoomPermit>,
}

/// A CONNECT as it came.
pub struct Received {
    /// Address of the client: that of the connection, or what a proxy says.
    pub peer: String,
    /// The network of that address.
    pub network: Network,
    /// The connection.
    pub socket: Socket,
    /// The connection within the limit.
    pub permit: ConnectionPermit,
    /// The packet, and what followed it.
    pub packet: ConnectPacket,
}

/// A CONNECT, and what followed it so far.
pub struct ConnectPacket {
    bytes: Vec<u8>,
    frame: Frame,
    network: Network,
    /// The room that a large packet takes.
    room: Option<RoomPermit>,
}

/// Waits for the connection's turn, opens it and reads a CONNECT.
///
/// # Errors
/// Why there is none, with the address of the client as far as it is known. The connection is closed, unless it is still
/// in `socket`.
pub async fn receive(
    worker: &Worker,
    protocol: &ListenerProtocol,
    socket_permit: &SocketPermit,
    socket: &mut Option<TcpStream>,
    peer: SocketAddr,
) -> Result<Received, (SocketAddr, Refused)> {
    let accepted_us = worker.clock.now().us;
    let mut client = peer;
    // Whether it waits for its turn or for room: time that is not its own, and no fault of its network.
    let waits = Cell::new(false);
    let read = async {
        let early = match socket.as_mut() {
            Some(socket) => opening::identify(worker, protocol, socket, &mut client).await?,
            None => return Err(Refused::ConnectionLost),
        };
        let network = Network::of(client.ip());
        waits.set(true);
        let has_left = || socket.as_ref().is_none_or(|socket| opening::has_left(protocol, socket, &early));
        let turn = worker.connects.enter(network, has_left).await;
        waits.set(false);
        match turn {
            Turn::Begins => {}
            Turn::Gone => return Err(Refused::ConnectionLost),
            Turn::Crowded => return Err(Refused::Crowded),
        }
        let waited_us = worker.clock.now().us.saturating_sub(accepted_us);
        worker.core.borrow_mut().meter().turn_began(waited_us);
        let permit = ConnectionPermit::take(socket_permit);
        if permit.admission == Admission::Rejected {
            return Err(Refused::ConnectionLimit);
        }
        let opened = socket.take().ok_or(Refused::ConnectionLost)?;
        let mut socket = opening::open(worker, protocol, opened, early).await?;
        let packet = read_connect(worker, &mut socket, network, &waits).await?;
        // It may have come together with the end of the connection.
        if matches!(&socket, Socket::Bare(Stream::Tcp(tcp)) if tcp.has_left(&packet.bytes)) {
            return Err(Refused::ConnectionLost);
        }
        Ok((network, socket, permit, packet))
    };
    let late = |_| Err(if waits.get() { Refused::Crowded } else { Refused::TimedOut });
    let read = tokio::time::timeout(worker.settings.connect_timeout, read).await.unwrap_or_else(late);
    match read {
        Ok((network, socket, permit, packet)) => {
            Ok(Received { peer: client.to_string(), network, socket, permit, packet })
        }
        Err(reason) => Err((client, reason)),
    }
}

async fn read_connect(
    worker: &Worker,
    socket: &mut Socket,
    network: Network,
    waits: &Cell<bool>,
) -> Result<ConnectPacket, Refused> {
    let limits = worker.core.borrow().environment().limits;
    let mut bytes = Vec::with_capacity(CONNECT_BYTES);
    let mut room = None;
    loop {
        match connect_frame(&bytes, &limits) {
            Ok(Some(frame)) => return Ok(ConnectPacket { bytes, frame, network, room }),
            Ok(None) => {}
            Err(_) => return Err(Refused::Malformed(FirstBytes::of(&bytes))),
        }
        let needed = connect_bytes(&bytes);
        if needed > Limits::FREE_BYTES && room.is_none() {
            waits.set(true);
            let taken = worker.opening.take(network, needed).await;
            waits.set(false);
            room = Some(taken.ok_or(Refused::Crowded)?);
            bytes.reserve_exact(needed.saturating_sub(bytes.len()));
        }
        opening::read_more(socket, &mut bytes, needed.max(Limits::FREE_BYTES)).await?;
    }
}

/// Judges a CONNECT. With `certificate`, what the client showed must name the device besides.
pub async fn authenticate(
    worker: &Worker,
    packet: ConnectPacket,
    peer: &str,
    certificate: Option<&[u8]>,
    admission: Admission,
) -> Result<Authenticated, Refusing> {
    let ConnectPacket { bytes, frame, network, room } = packet;
    let end = frame.total_bytes();
    let connect = match mqtt::decode_connect(frame.first_byte, &bytes[frame.header_bytes..end]) {
        Ok(Packet::Connect(connect)) => connect,
        Ok(Packet::ConnectOfOtherVersion) => return Err(Refusing::unnamed(Refused::Version)),
        _ => return Err(Refusing::unnamed(Refused::Malformed(FirstBytes::of(&bytes)))),
    };
    let refusing = |reason| Refusing { device: connect.client_id.to_owned(), ..Refusing::unnamed(reason) };
    let refuse = |reason| Err(refusing(reason));
    if connect.client_id.is_empty() {
        return refuse(Refused::ClientId);
    }
    if worker.connection_limit.is_draining() {
        return refuse(Refused::Draining);
    }
    if admission != Admission::Admitted {
        return refuse(Refused::ConnectionLimit);
    }
    if worker.queue() != Availability::Ok {
        return refuse(Refused::QueueAway);
    }
    let registry = worker.core.borrow().environment().registry.clone();
    let identity = match registry.device(connect.client_id, Source { protocol: Protocol::Mqtt, network }).await {
        Lookup::Found(identity) => Some(identity),
        Lookup::Unknown => None,
        Lookup::Away => return refuse(Refused::RegistryAway),
    };
    let expected = identity.as_ref().map(|identity| Expected {
        secure_id: &identity.secure_id,
        secure_key: &identity.secure_key,
        enabled: identity.enabled,
    });
    let now_ms = worker.clock.now().unix_ms;
    let credentials = connect.credentials;
    let (username, password) = (credentials.username, credentials.password);
    let product = identity.as_ref().map(|identity| identity.product.clone());
    if let Err(reason) = auth::verify(username, password, expected.as_ref(), now_ms) {
        let attempt = Some(Box::new(Attempt::new(reason, username, password, expected.as_ref(), now_ms)));
        return Err(Refusing { product, attempt, ..refusing(Refused::Identity(reason)) });
    }
    if certificate.is_some_and(|certificate| !tls::names(certificate, connect.client_id)) {
        return Err(Refusing { product, ..refusing(Refused::Certificate) });
    }
    let (Some(mut identity), Ok(device)) = (identity, DeviceId::new(connect.client_id)) else {
        return refuse(Refused::Identity(Refusal::Unknown));
    };
    if identity.children.len() > worker.settings.children_max {
        let bound = identity.children.len();
        tracing::warn!(device = device.as_str(), bound, "a gateway has more children than it may have");
        identity.children = identity.children.into_iter().take(worker.settings.children_max).collect();
    }
    let connect = Connect {
        device,
        identity,
        version: connect.version,
        keep_alive_secs: connect.keep_alive_secs,
        will: connect.will.map(|will| StoredWill { topic: will.topic.into(), payload: will.payload.into() }),
        network,
        peer: peer.into(),
    };
    Ok(Authenticated { connect, rest: bytes[end..].to_vec(), room })
}

/// Bytes that the CONNECT at the front needs; 0 when that is not known yet.
fn connect_bytes(bytes: &[u8]) -> usize {
    mqtt::frame(bytes).ok().flatten().map_or(0, |frame| frame.total_bytes())
}

/// Whether the bytes so far could still become a CONNECT within the limit.
fn connect_frame(bytes: &[u8], limits: &Limits) -> Result<Option<mqtt::Frame>, Malformed> {
    if bytes.first().is_some_and(|&first_byte| first_byte >> 4 != 1) {
        return Err(Malformed::PacketType);
    }
    match mqtt::frame(bytes)? {
        Some(frame) if frame.total_bytes() > limits.packet_bytes => Err(Malformed::Body),
        Some(frame) if frame.total_bytes() <= bytes.len() => Ok(Some(frame)),
        _ => Ok(None),
    }
}
