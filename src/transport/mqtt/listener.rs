//! Accepts connections and takes each to its session.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::spawn_local;

use super::Listening;
use super::connection::{self, Connection, State};
use super::door::Door;
use super::handshake::{self, Authenticated, Received, Refusing};
use super::socket::Socket;
use crate::codec::mqtt::encode;
use crate::protocol::auth::Refusal;
use crate::protocol::network::Network;
use crate::protocol::uplink::Token;
use crate::replica::Mail;
use crate::replica::claim::Word;
use crate::replica::{Entered, Entry};
use crate::session::mqtt::{Ending, Opening, Session};
use crate::transport::gate::{Bucket, Place, SocketPermit};
use crate::transport::port::{Identity, Refused, Way};
use crate::transport::room::RoomPermit;
use crate::transport::worker::Worker;

/// Connections that are accepted in a second at least, twice as many as wait in the system's line: there, nobody can be told
/// from anybody else.
const ACCEPTS_PER_SECOND: u64 = 8_192;

/// Pause after the system refused a connection: it is out of descriptors or memory, and asking again at once does not
/// help it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the future is dropped.
pub async fn accept(worker: Rc<Worker>, listening: Listening) {
    let Listening { listener, door } = listening;
    let clock = worker.core.borrow().clock;
    let per_second = worker.settings.connects_per_second.max(ACCEPTS_PER_SECOND);
    let mut bucket = Bucket::new(per_second, clock.now().us);
    loop {
        if let Err(wait_us) = bucket.take(clock.now().us) {
            tokio::time::sleep(Duration::from_micros(wait_us)).await;
            continue;
        }
        match listener.accept().await {
            Ok((socket, peer)) => match SocketPermit::take(&worker.gate) {
                Some(permit) => drop(spawn_local(serve(worker.clone(), door.clone(), permit, socket, peer))),
                // Closed before another one is accepted: the last descriptors belong to probes and queues.
                None => {
                    drop(socket);
                    let meter = &mut worker.core.borrow_mut().meter;
                    meter.refused("", &peer.to_string(), Refused::ConnectionLimit);
                }
            },
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves a connection until it is closed; its permit is given back after that.
async fn serve(worker: Rc<Worker>, door: Door, permit: SocketPermit, socket: TcpStream, peer: SocketAddr) {
    let way = door.way();
    worker.core.borrow_mut().meter.opened(way);
    let mut has_session = false;
    // Without it acknowledgements wait for the peer's delayed ACK; where it cannot be set they still arrive.
    let _unset = socket.set_nodelay(true);
    match open(&worker, &door, &permit, socket, peer).await {
        Opened::Session(connection, place) => {
            has_session = true;
            drop(door);
            connection::drive(&worker, &connection, place).await;
        }
        Opened::Refused(mut socket, place) => {
            // Whoever sees the connection closed may count on its place.
            drop(place);
            connection::close(&mut socket, connection::FAREWELL).await;
        }
        Opened::Nothing => {}
    }
    worker.core.borrow_mut().meter.closed(way, has_session);
}

/// What came of a connection.
enum Opened {
    /// A session.
    Session(Rc<Connection>, Place),
    /// An answer that says no; the connection is still to be closed.
    Refused(Socket, Place),
    /// Nothing; it is closed.
    Nothing,
}

/// Takes a connection to its session.
async fn open(worker: &Rc<Worker>, door: &Door, permit: &SocketPermit, socket: TcpStream, peer: SocketAddr) -> Opened {
    let refused = |device: &str, peer: &str, reason| worker.core.borrow_mut().meter.refused(device, peer, reason);
    let received = match handshake::receive(worker, door, permit, socket, peer).await {
        Ok(received) => received,
        Err((peer, reason)) => {
            refused("", &peer.to_string(), reason);
            if is_fault(reason) {
                worker.connects.note(Network::of(peer.ip()), false);
            }
            return Opened::Nothing;
        }
    };
    let Received { peer, network, mut socket, place, connect } = received;
    let certificate = socket.client_certificate();
    let claimed = match handshake::authenticate(worker, connect, certificate, place.admission).await {
        Ok(authenticated) => claim(worker, &authenticated, network, &peer).map(|claim| (authenticated, claim)),
        Err(refusing) => Err(refusing),
    };
    match claimed {
        Ok((authenticated, claim)) => {
            worker.connects.note(network, true);
            let begun = begin(worker, authenticated, claim, (socket, door.way()), &peer).await;
            begun.map_or(Opened::Nothing, |connection| Opened::Session(connection, place))
        }
        Err(Refusing { device, reason }) => {
            refused(&device, &peer, reason);
            if is_fault(reason) {
                worker.connects.note(network, false);
            }
            if let Some(code) = reason.code() {
                // A client that does not take its refusal is closed without it.
                let _unread = socket.try_write(&encode::connack(code));
            }
            Opened::Refused(socket, place)
        }
    }
}

/// Whether a connection has itself to blame for getting no session.
fn is_fault(reason: Refused) -> bool {
    match reason {
        Refused::Version
        | Refused::ClientId
        | Refused::Identity(_)
        | Refused::Certificate
        | Refused::ProxyHeader
        | Refused::TlsHandshake
        | Refused::WebSocketHandshake
        | Refused::Malformed
        | Refused::TimedOut => true,
        // Health checks of balancers leave without a word.
        Refused::ConnectionLost
        | Refused::RegistryAway
        | Refused::QueueAway
        | Refused::Draining
        | Refused::ConnectionLimit
        | Refused::Crowded
        | Refused::TakeoverLimit
        | Refused::ReconnectLimit => false,
    }
}

/// What a session begins with besides its device.
struct Claim {
    token: Token,
    id: Box<str>,
    /// The room that a large will takes.
    will_room: Option<RoomPermit>,
}

/// Makes the device's session this one, which gets a place and an id; the older one ends.
fn claim(worker: &Worker, authenticated: &Authenticated, network: Network, peer: &str) -> Result<Claim, Refusing> {
    let device = &authenticated.device;
    let will_bytes = authenticated.will.as_ref().map_or(0, |will| will.topic.len() + will.payload.len());
    let will_room = match connection::will_charge(will_bytes) {
        0 => None,
        charge => match worker.wills.try_take(network, charge) {
            Some(room) => Some(room),
            None => return Err(Refusing { device: device.to_string(), reason: Refused::ConnectionLimit }),
        },
    };
    let token = worker.slots.borrow_mut().reserve();
    let now = worker.core.borrow_mut().now();
    let id: Box<str> = worker.session_id(now).into();
    let entry = Entry {
        worker: worker.settings.index,
        token,
        product: authenticated.identity.product.clone(),
        session: id.clone(),
        peer: peer.into(),
        connected_ms: now.unix_ms,
        since: 0,
        replaces: false,
    };
    let refuse = |reason| {
        worker.slots.borrow_mut().release(token);
        Err(Refusing { device: device.to_string(), reason })
    };
    let older = match worker.directory.enter(device.clone(), entry, now) {
        Entered::Fresh => None,
        Entered::TookOver(older) => Some(older),
        Entered::ReconnectsTooOften => return refuse(Refused::ReconnectLimit),
        Entered::TakenOverTooOften { is_first } => {
            if is_first {
                worker.say(Word::Refused, device, &id);
            }
            return refuse(Refused::TakeoverLimit);
        }
    };
    let registry = worker.core.borrow().registry.clone();
    let is_permitted = registry.permits(device.as_str(), &authenticated.identity);
    let takes_over = older.is_some();
    if let Some(older) = older {
        // Without a session to follow it the older one does not give way, it is ended, and says so.
        let ending = if is_permitted { Ending::TakenOver } else { Ending::Kicked };
        worker.core.borrow_mut().meter.took_over(device.as_str());
        worker.end_anywhere(&older, ending);
    }
    if !is_permitted {
        worker.directory.remove(device, worker.settings.index, token, now.us);
        return refuse(Refused::Identity(Refusal::Wrong));
    }
    worker.say(Word::Begun, device, &id);
    if takes_over {
        worker.say(Word::Yielded, device, &id);
    }
    Ok(Claim { token, id, will_room })
}

/// Gives the device its session; `None` when a newer CONNECT of the device came in between.
async fn begin(
    worker: &Rc<Worker>,
    authenticated: Authenticated,
    Claim { token, id, will_room }: Claim,
    (socket, way): (Socket, Way),
    peer: &str,
) -> Option<Rc<Connection>> {
    let Authenticated { device, identity, version, keep_alive_secs, will, rest, room } = authenticated;
    let Identity { product, children, .. } = identity;
    let mut addresses = vec![(product.clone(), device.clone())];
    addresses.extend(children.iter().map(|child| (child.product.clone(), child.id.clone())));
    worker.keep_commands(token);
    let ending = worker.attach(token, &addresses).await;
    if !worker.directory.holds(device.as_str(), worker.settings.index, token) {
        worker.core.borrow_mut().downlink.detach(token);
        worker.slots.borrow_mut().release(token);
        worker.release_commands(token);
        return None;
    }
    let mut send = Vec::new();
    let session = {
        let core = &mut *worker.core.borrow_mut();
        let now = core.now();
        core.meter.connected(way, device.as_str(), peer);
        let opening = Opening {
            slot: token.slot,
            generation: token.generation,
            product,
            device: device.clone(),
            id,
            version,
            keep_alive_secs,
            will,
            children,
            peer,
        };
        core.with(now, device.as_str(), peer, &mut send, |ctx| Session::start(opening, ctx))
    };
    let mut state = State::new(session, socket, rest);
    if worker.directory.replaces(device.as_str(), token) {
        state.session.replaces_another();
    }
    state.write(&mut send);
    let connection = Rc::new(Connection { token, device, peer: peer.into(), state: RefCell::new(state) });
    {
        let state = &mut *connection.state.borrow_mut();
        state.keep_will_room(will_room);
        state.charge_will(&mut worker.core.borrow_mut().load);
    }
    drop(room);
    worker.slots.borrow_mut().fill(token, connection.clone());
    worker.release_commands(token);
    worker.core.borrow_mut().uplink.flush();
    if let Some(ending) = ending {
        worker.end(token, ending);
    } else if worker.gate.is_draining() {
        // The drain may have gone by the sessions that had not begun.
        worker.act(&connection, |state, ctx| state.session.drain(ctx));
    }
    Some(connection)
}

impl Worker {
    /// Ends the session that another of the same device replaces, wherever in this replica it is.
    fn end_anywhere(&self, older: &Entry, ending: Ending) {
        if older.worker == self.settings.index {
            self.end(older.token, ending);
        } else if let Some(mailbox) = self.mailboxes.get(older.worker) {
            mailbox.send(Mail::End(older.token, ending));
        }
    }
}
