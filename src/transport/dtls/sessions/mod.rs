//! All sessions of one port; see the module above for the flow.

mod handshake;
mod room;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use slab::Slab;

use super::buffer::DatagramBuffer;
use super::cookie::{CookieSecret, Cookies};
use super::engine::{Engine, Plain};
use super::flight::Flight;
use super::hello::{Hello, RANDOM_BYTES, is_unencrypted};
use super::server::Server;
use crate::memory;
use crate::protocol::limit::Now;
use crate::protocol::network::Network;
use crate::protocol::shares::Rate;
use crate::session::coap::{Outbox, PeerKey};
use crate::transport::bucket::Bucket;
use crate::transport::connection_limit::ConnectionLimit;
use crate::transport::traits::Handshake;

/// Bits of a session's number that are its index; above them stands a count, so no number comes twice.
const INDEX_BITS: u32 = 24;

/// Bytes of a record's plaintext at most.
const PLAIN_BYTES_MAX: usize = 16 * 1024;

/// How long a handshake may take.
const HANDSHAKE_US: u64 = 30_000_000;

/// Silence after which a session gives its buffers back.
const REST_US: u64 = 5_000_000;

/// Sessions that end, or need OpenSSL no longer, until the memory of them is given back to the system; some 4 MiB.
const GIVE_BACK_SESSIONS: usize = 64;

/// Pause between two times that memory is given back, us: each takes some milliseconds.
const GIVE_BACK_US: u64 = 5_000_000;

/// Ticks in which every session is looked at once.
pub(super) const TICKS_PER_ROUND: usize = 64;

/// Bounds of the sessions.
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
struct AddressEntry {
    live: Option<u64>,
    /// A handshake, perhaps of a device that began anew.
    pending: Option<u64>,
}

/// OpenSSL's part: certificate, cookies, and the buffers that all engines use in turn.
#[derive(Debug)]
struct Tls {
    server: Server,
    cookies: Cookies,
    wire: DatagramBuffer,
    plain: Box<[u8]>,
}

/// All sessions, by number and by address.
#[derive(Debug, Default)]
struct Table {
    sessions: Slab<Session>,
    addresses: HashMap<SocketAddr, AddressEntry>,
    /// Sessions so far.
    count: u64,
    /// The index at which the next look begins.
    hand: usize,
}

impl Table {
    fn get(&self, id: u64) -> Option<&Session> {
        self.sessions.get(index_of(id)).filter(|session| session.id == id)
    }

    fn get_mut(&mut self, id: u64) -> Option<&mut Session> {
        self.sessions.get_mut(index_of(id)).filter(|session| session.id == id)
    }

    /// The index to look at next: all come in turn.
    fn next_index(&mut self) -> usize {
        self.hand = if self.hand + 1 < self.sessions.capacity() { self.hand + 1 } else { 0 };
        self.hand
    }
}

/// Handshakes, and sessions over which no device has authenticated.
#[derive(Debug, Default)]
struct Unproven {
    /// Handshakes in the order of their beginning, and some that are no longer half open.
    half_open: VecDeque<u64>,
    half_open_len: usize,
    /// Sessions in the order in which their handshakes were finished, and some over which a device has authenticated.
    finished: VecDeque<u64>,
    finished_len: usize,
    /// Both together, by network.
    networks: HashMap<Network, usize>,
}

/// The rate of handshakes.
#[derive(Debug)]
struct HandshakeRate {
    bucket: Bucket,
    /// The part of the bucket that each network may take.
    shares: Rate,
}

/// Results that the caller takes out.
#[derive(Debug, Default)]
struct Output {
    received: Outbox,
    sent: Outbox,
    ended: Vec<PeerKey>,
    outcomes: Vec<(SocketAddr, Handshake)>,
}

/// The memory of sessions that have ended, and of OpenSSL in those that go on.
#[derive(Debug)]
struct GivenBack {
    /// Sessions whose memory was freed since memory was given back.
    freed: usize,
    /// When it was, us.
    at_us: u64,
}

/// Every session is counted at the gate, half-open ones included.
#[derive(Debug)]
pub struct Sessions {
    tls: Tls,
    connection_limit: Arc<ConnectionLimit>,
    bounds: Bounds,
    rate: HandshakeRate,
    table: Table,
    unproven: Unproven,
    given_back: GivenBack,
    output: Output,
}

impl Sessions {
    /// None yet.
    pub fn new(
        server: Server,
        secret: CookieSecret,
        connection_limit: Arc<ConnectionLimit>,
        bounds: Bounds,
        now: Now,
    ) -> Self {
        let plain = vec![0; PLAIN_BYTES_MAX].into();
        Self {
            tls: Tls { server, cookies: Cookies::new(secret), wire: DatagramBuffer::default(), plain },
            connection_limit,
            bounds,
            rate: HandshakeRate {
                bucket: Bucket::new(bounds.handshakes_per_second, now.us),
                shares: Rate::new(bounds.handshakes_per_second, now.us),
            },
            table: Table::default(),
            unproven: Unproven::default(),
            given_back: GivenBack { freed: 0, at_us: now.us },
            output: Output::default(),
        }
    }

    /// Sessions whose handshake is finished.
    pub fn open(&self) -> usize {
        self.table.sessions.len() - self.unproven.half_open_len
    }

    /// Address of a session's peer.
    pub fn address(&self, id: u64) -> Option<SocketAddr> {
        self.table.get(id).map(|session| session.address)
    }

    /// Handshakes.
    pub fn half_open(&self) -> usize {
        self.unproven.half_open_len
    }

    /// The plaintexts, by session; [`Sessions::clear_received`] must follow.
    pub fn received(&self) -> &Outbox {
        &self.output.received
    }

    /// Forgets what was decrypted.
    pub fn clear_received(&mut self) {
        self.output.received.clear();
    }

    /// The datagrams to be sent, by address; [`Sessions::clear_sent`] must follow.
    pub fn sent(&self) -> &Outbox {
        &self.output.sent
    }

    /// Forgets what was sent.
    pub fn clear_sent(&mut self) {
        self.output.sent.clear();
    }

    /// The sessions that ended since the last call.
    pub fn take_ended(&mut self) -> Vec<PeerKey> {
        std::mem::take(&mut self.output.ended)
    }

    /// The outcomes of handshakes since the last call.
    pub fn take_outcomes(&mut self) -> Vec<(SocketAddr, Handshake)> {
        std::mem::take(&mut self.output.outcomes)
    }

    /// Takes a datagram in.
    pub fn feed(&mut self, now: Now, from: SocketAddr, datagram: &[u8]) {
        let mut entry = self.table.addresses.get(&from).copied().unwrap_or_default();
        if datagram.is_empty() {
            // To OpenSSL it would be the end of the stream.
            entry = AddressEntry::default();
        }
        if let Some(hello) = Hello::read(datagram) {
            return self.hello(now, from, entry, &hello);
        }
        match entry {
            AddressEntry { live: None, pending: None } => self.output.outcomes.push((from, Handshake::Noise)),
            AddressEntry { live: Some(id), pending: None } | AddressEntry { live: None, pending: Some(id) } => {
                self.drive(now, id, datagram);
            }
            AddressEntry { live: Some(_), pending: Some(id) } if is_unencrypted(datagram) => {
                self.drive(now, id, datagram);
            }
            // Only one of the two can decrypt it; to the other it is noise.
            AddressEntry { live: Some(live), pending: Some(pending) } => {
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
        for _ in 0..self.unproven.half_open.len() {
            let Some(id) = self.unproven.half_open.pop_front() else { break };
            let Some(began_us) = self.began_us(id) else { continue };
            if began_us + HANDSHAKE_US <= now.us {
                self.fail(id, Handshake::TimedOut);
                continue;
            }
            self.unproven.half_open.push_back(id);
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
        let round = self.table.sessions.capacity().div_ceil(TICKS_PER_ROUND);
        for _ in 0..round {
            let index = self.table.next_index();
            let Some(session) = self.table.sessions.get_mut(index).filter(|session| session.opening.is_none()) else {
                continue;
            };
            if session.heard_us + self.bounds.idle_us <= now.us {
                let id = session.id;
                self.close_one(id);
            } else if session.heard_us + REST_US <= now.us {
                session.engine.rest();
            }
        }
        if self.given_back.freed >= GIVE_BACK_SESSIONS && self.given_back.at_us + GIVE_BACK_US <= now.us {
            memory::give_back();
            (self.given_back.freed, self.given_back.at_us) = (0, now.us);
        }
    }

    /// Ends all sessions and tells their peers.
    pub fn close(&mut self) {
        let ids: Vec<u64> = self.table.sessions.iter().map(|(_, session)| session.id).collect();
        ids.into_iter().for_each(|id| self.close_one(id));
    }

    /// Lets a session take a datagram; whether it was a message for it.
    fn drive(&mut self, now: Now, id: u64, datagram: &[u8]) -> bool {
        if self.find(id).is_some_and(|session| session.opening.is_some()) {
            return self.shake(now, id, datagram);
        }
        self.tls.wire.fill(datagram);
        self.read(now, id)
    }

    /// Reads everything that a datagram holds.
    fn read(&mut self, now: Now, id: u64) -> bool {
        let mut is_message = false;
        loop {
            let Some(session) = self.table.get_mut(id) else {
                return is_message;
            };
            match session.engine.read(&mut self.tls.plain) {
                Plain::Bytes(bytes) => {
                    session.heard_us = now.us;
                    is_message = true;
                    self.output.received.push(PeerKey::Session(id), &self.tls.plain[..bytes]);
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
        let session = self.table.sessions.remove(index_of(id));
        self.given_back.freed += 1;
        if session.is_proven {
            self.connection_limit.leave();
        } else {
            self.connection_limit.leave_unproven();
            self.count_out(session.address);
        }
        match (&session.opening, session.is_proven) {
            (Some(_), _) => self.unproven.half_open_len -= 1,
            (None, true) => {}
            (None, false) => self.unproven.finished_len -= 1,
        }
        if session.opening.is_none() {
            self.output.ended.push(PeerKey::Session(id));
        }
        if let Some(entry) = self.table.addresses.get_mut(&session.address) {
            let other = |entry: Option<u64>| entry.filter(|other| *other != id);
            *entry = AddressEntry { live: other(entry.live), pending: other(entry.pending) };
            if entry.live.is_none() && entry.pending.is_none() {
                self.table.addresses.remove(&session.address);
            }
        }
    }

    /// Moves what a session wrote to what must be sent.
    fn collect(&mut self, id: u64) {
        let Some(session) = self.table.get(id) else { return };
        let (peer, sent) = (PeerKey::Address(session.address), &mut self.output.sent);
        self.tls.wire.drain(|datagram| sent.push(peer, datagram));
    }

    fn find(&mut self, id: u64) -> Option<&mut Session> {
        self.table.get_mut(id)
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        for (_, session) in &self.table.sessions {
            if session.is_proven { self.connection_limit.leave() } else { self.connection_limit.leave_unproven() }
        }
    }
}

fn index_of(id: u64) -> usize {
    (id & ((1 << INDEX_BITS) - 1)) as usize
}
