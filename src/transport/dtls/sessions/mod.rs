//! All sessions of one port; see the module above for the flow.

mod handshake;
mod room;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use slab::Slab;

use super::cookie::{CookieSecret, Cookies};
use super::engine::{Engine, Plain};
use super::flight::Flight;
use super::hello::{Hello, RANDOM_BYTES, is_unencrypted};
use super::server::Server;
use super::wire::Wire;
use crate::memory;
use crate::protocol::limit::Now;
use crate::protocol::network::Network;
use crate::protocol::shares::Rate;
use crate::session::coap::{Outbox, PeerKey};
use crate::transport::gate::{Bucket, Gate};
use crate::transport::traits::Handshake;

/// Where the place of a session ends in its number; above it stands a count, so no number comes twice.
const PLACE_BITS: u32 = 24;

/// Bytes of a record's plaintext at most.
const PLAIN_BYTES_MAX: usize = 16 * 1024;

/// How long a handshake may take.
const HANDSHAKE_US: u64 = 30_000_000;

/// Silence after which a session gives its buffers back.
const REST_US: u64 = 5_000_000;

/// Sessions that end until the memory of them is given back to the system; some 4 MiB.
const GIVE_BACK_SESSIONS: usize = 64;

/// Pause between two times that memory is given back, us: each takes some milliseconds.
const GIVE_BACK_US: u64 = 5_000_000;

/// Ticks in which every session is looked at once.
pub(super) const TICKS_PER_ROUND: usize = 64;

/// What sessions are held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Handshakes that may be half open; less than 64 KiB each.
    pub half_open: usize,
    /// Handshakes and sessions over which no device has authenticated.
    pub unproven: usize,
    /// Of them those of one address, for IPv6 of one /64.
    pub unproven_per_network: usize,
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
    /// Whether a device has authenticated over it.
    is_proven: bool,
    /// When its handshake began, or, once it is, was finished.
    begun_us: u64,
    heard_us: u64,
}

/// A handshake that is half open.
#[derive(Debug)]
struct Opening {
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
    /// What of the bucket each network may take.
    shares: Rate,
    bounds: Bounds,
    wire: Wire,
    sessions: Slab<Session>,
    places: HashMap<SocketAddr, Place>,
    count: u64,
    /// Half-open ones in the order of their beginning, and some that are no longer.
    half_open: VecDeque<u64>,
    half_open_len: usize,
    /// Sessions over which no device has authenticated, in the order in which they were finished, and some that are no longer.
    unproven: VecDeque<u64>,
    unproven_len: usize,
    /// Handshakes and sessions over which no device has authenticated, by address.
    networks: HashMap<Network, usize>,
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
            shares: Rate::new(bounds.handshakes_per_second, now.us),
            bounds,
            wire: Wire::default(),
            sessions: Slab::new(),
            places: HashMap::new(),
            count: 0,
            half_open: VecDeque::new(),
            half_open_len: 0,
            unproven: VecDeque::new(),
            unproven_len: 0,
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
        self.end_unproven(now);
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

    /// Lets a session take a datagram; whether it was a message for it.
    fn drive(&mut self, now: Now, id: u64, datagram: &[u8]) -> bool {
        if self.find(id).is_some_and(|session| session.opening.is_some()) {
            return self.shake(now, id, datagram);
        }
        self.wire.fill(datagram);
        self.read(now, id)
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
        self.given_up += 1;
        if session.is_proven {
            self.gate.leave();
        } else {
            self.gate.leave_unproven();
            self.count_out(session.address);
        }
        match (&session.opening, session.is_proven) {
            (Some(_), _) => self.half_open_len -= 1,
            (None, true) => {}
            (None, false) => self.unproven_len -= 1,
        }
        if session.opening.is_none() {
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

    /// Moves what a session wrote to what must be sent.
    fn collect(&mut self, id: u64) {
        let Some(session) = self.sessions.get(place_of(id)).filter(|session| session.id == id) else { return };
        let (peer, sent) = (PeerKey::Address(session.address), &mut self.sent);
        self.wire.drain(|datagram| sent.push(peer, datagram));
    }

    fn find(&mut self, id: u64) -> Option<&mut Session> {
        self.sessions.get_mut(place_of(id)).filter(|session| session.id == id)
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        for (_, session) in &self.sessions {
            if session.is_proven { self.gate.leave() } else { self.gate.leave_unproven() }
        }
    }
}

fn place_of(id: u64) -> usize {
    (id & ((1 << PLACE_BITS) - 1)) as usize
}
