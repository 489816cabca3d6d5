//! All sessions of one port; see the module above for the flow.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use slab::Slab;

use super::cookie::{CookieSecret, Cookies};
use super::engine::{Engine, Plain, Progress};
use super::flight::{Flight, Unfit};
use super::hello::{Hello, RANDOM_BYTES, is_unencrypted};
use super::server::Server;
use super::wire::Wire;
use crate::memory;
use crate::protocol::coap::{Outbox, PeerKey};
use crate::protocol::limit::Now;
use crate::transport::gate::{Admission, Bucket, Gate};
use crate::transport::port::Handshake;

/// Where the place of a session ends in its number; above it stands a count, so no number comes twice.
const PLACE_BITS: u32 = 24;

/// Bytes of a record's plaintext at most.
const PLAIN_BYTES_MAX: usize = 16 * 1024;

/// How long a handshake may take.
const HANDSHAKE_US: u64 = 30_000_000;

/// Age at which a handshake makes room for another one when too many are half open. A good one takes a few round trips.
const YIELD_US: u64 = 5_000_000;

/// Silence after which a session gives its buffers back.
const REST_US: u64 = 5_000_000;

/// Silence after which a session makes room for a new one when `limits.connections` is reached.
const SPARE_US: u64 = 60_000_000;

/// Sessions that end until the memory of them is given back to the system; some 4 MiB.
const GIVE_BACK_SESSIONS: usize = 64;

/// Pause between two times that memory is given back, us: each takes some milliseconds.
const GIVE_BACK_US: u64 = 5_000_000;

/// Sessions that are compared when one must make room.
const CANDIDATES: usize = 64;

/// Ticks in which every session is looked at once.
pub(super) const TICKS_PER_ROUND: usize = 64;

/// What sessions are held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Handshakes that may be half open; less than 64 KiB each.
    pub half_open: usize,
    /// Of them those of one address, for IPv6 of one /64.
    pub half_open_per_network: usize,
    /// Handshakes that may begin in a second.
    pub handshakes_per_second: u64,
    /// Silence after which a session is forgotten, us.
    pub idle_us: u64,
}

#[derive(Debug)]
struct Session {
    id: u64,
    address: SocketAddr,
    engine: Engine,
    random: [u8; RANDOM_BYTES],
    /// `None` once its handshake is finished.
    opening: Option<Box<Opening>>,
    heard_us: u64,
}

/// A handshake that is half open.
#[derive(Debug)]
struct Opening {
    began_us: u64,
    flight: Flight,
    /// A Finished that came before what precedes it; at most as long as one may be.
    early: Option<Box<[u8]>>,
}

/// The sessions at one address.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    live: Option<u64>,
    /// A handshake, perhaps of a device that began anew.
    pending: Option<u64>,
}

/// Every session is counted at the gate, half-open ones included.
#[derive(Debug)]
pub struct Sessions {
    server: Server,
    cookies: Cookies,
    gate: Arc<Gate>,
    bucket: Bucket,
    bounds: Bounds,
    wire: Wire,
    sessions: Slab<Session>,
    places: HashMap<SocketAddr, Place>,
    count: u64,
    /// Half-open ones in the order of their beginning, and some that are no longer.
    half_open: VecDeque<u64>,
    half_open_len: usize,
    networks: HashMap<IpAddr, usize>,
    hand: usize,
    /// Sessions that ended since memory was given back, and when it was.
    given_up: usize,
    given_back_us: u64,
    plain: Box<[u8]>,
    received: Outbox,
    sent: Outbox,
    ended: Vec<PeerKey>,
    outcomes: Vec<(SocketAddr, Handshake)>,
}

impl Sessions {
    /// None yet.
    pub fn new(server: Server, secret: CookieSecret, gate: Arc<Gate>, bounds: Bounds, now: Now) -> Self {
        Self {
            server,
            cookies: Cookies::new(secret),
            gate,
            bucket: Bucket::new(bounds.handshakes_per_second, now.us),
            bounds,
            wire: Wire::default(),
            sessions: Slab::new(),
            places: HashMap::new(),
            count: 0,
            half_open: VecDeque::new(),
            half_open_len: 0,
            networks: HashMap::new(),
            hand: 0,
            given_up: 0,
            given_back_us: now.us,
            plain: vec![0; PLAIN_BYTES_MAX].into(),
            received: Outbox::default(),
            sent: Outbox::default(),
            ended: Vec::new(),
            outcomes: Vec::new(),
        }
    }

    /// Sessions whose handshake is finished.
    pub fn open(&self) -> usize {
        self.sessions.len() - self.half_open_len
    }

    /// Handshakes.
    pub fn half_open(&self) -> usize {
        self.half_open_len
    }

    /// What was decrypted, by session; [`Sessions::clear_received`] must follow.
    pub fn received(&self) -> &Outbox {
        &self.received
    }

    /// Forgets what was decrypted.
    pub fn clear_received(&mut self) {
        self.received.clear();
    }

    /// What must be sent, by address; [`Sessions::clear_sent`] must follow.
    pub fn sent(&self) -> &Outbox {
        &self.sent
    }

    /// Forgets what was sent.
    pub fn clear_sent(&mut self) {
        self.sent.clear();
    }

    /// The sessions that ended since the last call.
    pub fn take_ended(&mut self) -> Vec<PeerKey> {
        std::mem::take(&mut self.ended)
    }

    /// What became of handshakes since the last call.
    pub fn take_outcomes(&mut self) -> Vec<(SocketAddr, Handshake)> {
        std::mem::take(&mut self.outcomes)
    }

    /// Takes a datagram in.
    pub fn feed(&mut self, now: Now, from: SocketAddr, datagram: &[u8]) {
        let mut place = self.places.get(&from).copied().unwrap_or_default();
        if datagram.is_empty() {
            // To OpenSSL it would be the end of the stream.
            place = Place::default();
        }
        if let Some(hello) = Hello::read(datagram) {
            return self.hello(now, from, place, &hello);
        }
        match place {
            Place { live: None, pending: None } => self.outcomes.push((from, Handshake::Noise)),
            Place { live: Some(id), pending: None } | Place { live: None, pending: Some(id) } => {
                self.drive(now, id, datagram);
            }
            Place { live: Some(_), pending: Some(id) } if is_unencrypted(datagram) => {
                self.drive(now, id, datagram);
            }
            // Only one of the two can decrypt it; to the other it is noise.
            Place { live: Some(live), pending: Some(pending) } => {
                if !self.drive(now, live, datagram) {
                    self.drive(now, pending, datagram);
                }
            }
        }
    }

    /// Encrypts an answer for a session; one that is gone gets none.
    pub fn send(&mut self, peer: PeerKey, plain: &[u8]) {
        let PeerKey::Session(id) = peer else { return };
        let Some(session) = self.find(id) else { return };
        let is_well = session.engine.send(plain);
        // Most sessions are silent for long after an answer. Memory that is given back late is no use to the next session.
        session.engine.rest();
        self.collect(id);
        if !is_well {
            self.end(id);
        }
    }

    /// Looks at the times; to be called about ten times a second.
    pub fn tick(&mut self, now: Now) {
        for _ in 0..self.half_open.len() {
            let Some(id) = self.half_open.pop_front() else { break };
            let Some(began_us) = self.began_us(id) else { continue };
            if began_us + HANDSHAKE_US <= now.us {
                self.fail(id, Handshake::TimedOut);
                continue;
            }
            self.half_open.push_back(id);
            let Some(session) = self.find(id) else { continue };
            if session.engine.timeout_us() == Some(0) {
                let is_well = session.engine.on_timeout();
                self.collect(id);
                if !is_well {
                    self.fail(id, Handshake::TimedOut);
                }
            }
        }
        let round = self.sessions.capacity().div_ceil(TICKS_PER_ROUND);
        for _ in 0..round {
            self.hand = if self.hand + 1 < self.sessions.capacity() { self.hand + 1 } else { 0 };
            let Some(session) = self.sessions.get_mut(self.hand).filter(|session| session.opening.is_none()) else {
                continue;
            };
            if session.heard_us + self.bounds.idle_us <= now.us {
                let id = session.id;
                self.close_one(id);
            } else if session.heard_us + REST_US <= now.us {
                session.engine.rest();
            }
        }
        if self.given_up >= GIVE_BACK_SESSIONS && self.given_back_us + GIVE_BACK_US <= now.us {
            memory::give_back();
            (self.given_up, self.given_back_us) = (0, now.us);
        }
    }

    /// Ends all sessions and tells their peers.
    pub fn close(&mut self) {
        let ids: Vec<u64> = self.sessions.iter().map(|(_, session)| session.id).collect();
        ids.into_iter().for_each(|id| self.close_one(id));
    }

    fn hello(&mut self, now: Now, from: SocketAddr, place: Place, hello: &Hello<'_>) {
        if !self.cookies.is_good(from, hello.cookie, now.unix_ms) {
            let cookie = self.cookies.make(from, now.unix_ms);
            self.sent.push(PeerKey::Address(from), &hello.request_cookie(&cookie));
            self.outcomes.push((from, Handshake::CookieRequested));
            return;
        }
        // A hello that comes again begins nothing: the flight that it asks for goes out again by its timer.
        let mut known = [place.live, place.pending].into_iter().flatten();
        if known.any(|id| self.find(id).is_some_and(|session| session.random == hello.random)) {
            return;
        }
        if let Some(id) = place.pending {
            self.fail(id, Handshake::Failed);
        }
        if !self.make_room(now, network(from)) {
            self.outcomes.push((from, Handshake::Refused));
            return;
        }
        self.begin(now, from, hello);
    }

    /// Whether a handshake may begin; it is counted at the gate then.
    fn make_room(&mut self, now: Now, network: IpAddr) -> bool {
        if self.bucket.take(now.us).is_err() {
            return false;
        }
        if self.networks.get(&network).is_some_and(|open| *open >= self.bounds.half_open_per_network) {
            return false;
        }
        while self.half_open_len >= self.bounds.half_open {
            let Some(id) = self.half_open.pop_front() else { return false };
            match self.began_us(id) {
                None => {}
                Some(began_us) if began_us + YIELD_US <= now.us => self.fail(id, Handshake::TimedOut),
                Some(_) => {
                    self.half_open.push_front(id);
                    return false;
                }
            }
        }
        if self.sessions.len() >= 1 << PLACE_BITS {
            return false;
        }
        if self.gate.enter() == Admission::Welcome {
            return true;
        }
        self.gate.leave();
        // A device that moved to another address left a session behind; it is the one that is silent longest.
        let Some(id) = self.longest_silent(now) else { return false };
        self.close_one(id);
        if self.gate.enter() == Admission::Welcome {
            return true;
        }
        self.gate.leave();
        false
    }

    /// Of a handful of sessions the one that was silent longest, if that is long enough.
    fn longest_silent(&mut self, now: Now) -> Option<u64> {
        let mut oldest: Option<(u64, u64)> = None;
        for _ in 0..CANDIDATES.min(self.sessions.capacity()) {
            self.hand = if self.hand + 1 < self.sessions.capacity() { self.hand + 1 } else { 0 };
            let Some(session) = self.sessions.get(self.hand) else { continue };
            let is_silent = session.opening.is_none() && session.heard_us + SPARE_US <= now.us;
            if is_silent && oldest.is_none_or(|(heard_us, _)| session.heard_us < heard_us) {
                oldest = Some((session.heard_us, session.id));
            }
        }
        oldest.map(|(_, id)| id)
    }

    fn begin(&mut self, now: Now, from: SocketAddr, hello: &Hello<'_>) {
        let engine = Engine::accept(&self.server, &self.wire, hello.record);
        let Some(engine) = engine else {
            self.wire.drain(|_| {});
            self.gate.leave();
            self.outcomes.push((from, Handshake::Failed));
            return;
        };
        self.count += 1;
        let entry = self.sessions.vacant_entry();
        // The caller has seen that there is a place.
        let id = self.count << PLACE_BITS | entry.key() as u64;
        let opening = Opening { began_us: now.us, flight: Flight::behind(hello.message), early: None };
        let (random, opening) = (hello.random, Some(Box::new(opening)));
        entry.insert(Session { id, address: from, engine, random, opening, heard_us: now.us });
        self.half_open.push_back(id);
        self.half_open_len += 1;
        *self.networks.entry(network(from)).or_default() += 1;
        self.places.entry(from).or_default().pending = Some(id);
        self.advance(now, id);
    }

    /// Lets a session take a datagram; whether it was a message for it.
    fn drive(&mut self, now: Now, id: u64, datagram: &[u8]) -> bool {
        if self.find(id).is_some_and(|session| session.opening.is_some()) {
            return self.shake(now, id, datagram);
        }
        self.wire.fill(datagram);
        self.read(now, id)
    }

    /// Lets a handshake take a datagram, as far as it needs it; whether the handshake is finished.
    fn shake(&mut self, now: Now, id: u64, datagram: &[u8]) -> bool {
        let Some(session) = self.find(id) else { return false };
        let (address, Some(opening)) = (session.address, session.opening.as_mut()) else { return false };
        let parts = match opening.flight.admit(datagram) {
            Ok(parts) => parts,
            Err(Unfit::Needless) => {
                self.outcomes.push((address, Handshake::Noise));
                return false;
            }
            Err(Unfit::Exhausted) => {
                self.fail(id, Handshake::Failed);
                return false;
            }
        };
        if let Some(encrypted) = parts.encrypted {
            opening.early = Some(encrypted.into());
        }
        if !parts.clear.is_empty() {
            self.wire.fill(parts.clear);
            self.advance(now, id);
        }
        // Until OpenSSL can decrypt it, it would keep it in a buffer for the longest record that there is.
        let Some(session) = self.find(id).filter(|session| session.engine.awaits_finished()) else { return false };
        let Some(opening) = session.opening.as_mut() else { return false };
        let Some(encrypted) = opening.early.take() else { return false };
        if opening.flight.admit_encrypted().is_err() {
            self.fail(id, Handshake::Failed);
            return false;
        }
        self.wire.fill(&encrypted);
        if !self.advance(now, id) {
            return false;
        }
        if !parts.rest.is_empty() {
            self.wire.fill(parts.rest);
            self.read(now, id);
        }
        true
    }

    /// Goes on with a handshake; whether it is finished.
    fn advance(&mut self, now: Now, id: u64) -> bool {
        let Some(session) = self.find(id) else { return false };
        let progress = session.engine.shake();
        self.collect(id);
        match progress {
            Progress::Waiting => false,
            Progress::Finished => {
                self.finish(now, id);
                true
            }
            Progress::Failed => {
                self.fail(id, Handshake::Failed);
                false
            }
        }
    }

    /// Reads everything that a datagram holds.
    fn read(&mut self, now: Now, id: u64) -> bool {
        let mut is_message = false;
        loop {
            let Some(session) = self.sessions.get_mut(place_of(id)).filter(|session| session.id == id) else {
                return is_message;
            };
            match session.engine.read(&mut self.plain) {
                Plain::Bytes(bytes) => {
                    session.heard_us = now.us;
                    is_message = true;
                    self.received.push(PeerKey::Session(id), &self.plain[..bytes]);
                }
                Plain::Nothing => {
                    self.collect(id);
                    return is_message;
                }
                Plain::Ended => {
                    self.close_one(id);
                    return true;
                }
            }
        }
    }

    /// The handshake is finished: the session takes its address over.
    fn finish(&mut self, now: Now, id: u64) {
        let Some(session) = self.find(id) else { return };
        session.opening = None;
        session.heard_us = now.us;
        session.engine.rest();
        let address = session.address;
        self.count_out(address);
        self.outcomes.push((address, Handshake::Finished));
        let place = self.places.entry(address).or_default();
        let older = place.live.replace(id);
        place.pending = None;
        if let Some(older) = older {
            // Its peer has forgotten it: it is told nothing.
            self.end(older);
        }
    }

    /// Ends a handshake.
    fn fail(&mut self, id: u64, outcome: Handshake) {
        if let Some(session) = self.find(id) {
            let address = session.address;
            self.outcomes.push((address, outcome));
            self.end(id);
        }
    }

    /// Ends a session and tells its peer.
    fn close_one(&mut self, id: u64) {
        if let Some(session) = self.find(id) {
            if session.opening.is_none() {
                session.engine.close();
                self.collect(id);
            }
            self.end(id);
        }
    }

    fn end(&mut self, id: u64) {
        if self.find(id).is_none() {
            return;
        }
        let session = self.sessions.remove(place_of(id));
        self.gate.leave();
        self.given_up += 1;
        if session.opening.is_some() {
            self.count_out(session.address);
        } else {
            self.ended.push(PeerKey::Session(id));
        }
        if let Some(place) = self.places.get_mut(&session.address) {
            let other = |place: Option<u64>| place.filter(|other| *other != id);
            *place = Place { live: other(place.live), pending: other(place.pending) };
            if place.live.is_none() && place.pending.is_none() {
                self.places.remove(&session.address);
            }
        }
    }

    /// One handshake less.
    fn count_out(&mut self, address: SocketAddr) {
        self.half_open_len -= 1;
        let network = network(address);
        if let Some(open) = self.networks.get_mut(&network) {
            *open -= 1;
            if *open == 0 {
                self.networks.remove(&network);
            }
        }
    }

    /// Moves what a session wrote to what must be sent.
    fn collect(&mut self, id: u64) {
        let Some(session) = self.sessions.get(place_of(id)).filter(|session| session.id == id) else { return };
        let (peer, sent) = (PeerKey::Address(session.address), &mut self.sent);
        self.wire.drain(|datagram| sent.push(peer, datagram));
    }

    /// When the handshake of a session began; `None` when it is no longer half open.
    fn began_us(&self, id: u64) -> Option<u64> {
        let session = self.sessions.get(place_of(id)).filter(|session| session.id == id)?;
        session.opening.as_ref().map(|opening| opening.began_us)
    }

    fn find(&mut self, id: u64) -> Option<&mut Session> {
        self.sessions.get_mut(place_of(id)).filter(|session| session.id == id)
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        for _ in 0..self.sessions.len() {
            self.gate.leave();
        }
    }
}

fn place_of(id: u64) -> usize {
    (id & ((1 << PLACE_BITS) - 1)) as usize
}

/// Whose handshakes are counted together: one holder of IPv6 addresses has at least a /64.
fn network(address: SocketAddr) -> IpAddr {
    match address.ip() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        ip @ IpAddr::V4(_) => ip,
    }
}
