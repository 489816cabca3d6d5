//! Places for handshakes and sessions: who gets one, and who has to go.

use std::net::SocketAddr;

use super::{INDEX_BITS, Sessions};
use crate::protocol::limit::Now;
use crate::protocol::network::Network;
use crate::session::coap::PeerKey;
use crate::transport::traits::Handshake;

/// Age at which a handshake makes room for another one when too many are half open. A good one takes a few round trips.
const YIELD_US: u64 = 5_000_000;

/// How long a session may be open until a device authenticates over it, as long as a connection of MQTT may be without
/// CONNECT by default; docs/operations.md names it.
const PROOF_US: u64 = 10_000_000;

/// Silence after which a session makes room for a new one when `limits.connections` is reached.
const SPARE_US: u64 = 60_000_000;

/// Sessions that are compared when one must make room.
const CANDIDATES: usize = 64;

impl Sessions {
    /// Whether a handshake may begin; it is counted at the gate then.
    pub(super) fn make_room(&mut self, now: Now, network: Network) -> bool {
        // First what concerns its network alone, so that it takes nothing from the others.
        if self.unproven.networks.get(&network).is_some_and(|unproven| *unproven >= self.bounds.unproven_per_network)
            || !self.rate.shares.take(network, now.us)
            || self.rate.bucket.take(now.us).is_err()
        {
            return false;
        }
        while self.unproven.half_open_len >= self.bounds.half_open {
            let Some(id) = self.unproven.half_open.pop_front() else { return false };
            match self.began_us(id) {
                None => {}
                Some(began_us) if began_us + YIELD_US <= now.us => self.fail(id, Handshake::TimedOut),
                Some(_) => {
                    self.unproven.half_open.push_front(id);
                    return false;
                }
            }
        }
        if self.table.sessions.len() >= 1 << INDEX_BITS {
            return false;
        }
        while self.unproven.half_open_len + self.unproven.finished_len >= self.bounds.unproven {
            if !self.end_oldest_unproven() {
                return false;
            }
        }
        if self.connection_limit.enter_unproven() {
            return true;
        }
        // A device that moved to another address left a session behind; it is the one that is silent longest.
        if !self.end_oldest_unproven() && !self.end_longest_silent(now) {
            return false;
        }
        self.connection_limit.enter_unproven()
    }

    /// A device has authenticated over a session, which is a connection from now on.
    pub fn prove(&mut self, now: Now, peer: PeerKey) {
        let PeerKey::Session(id) = peer else { return };
        let Some(session) = self.find(id).filter(|session| !session.is_proven) else { return };
        let address = session.address;
        if !self.connection_limit.prove() {
            let has_room = self.end_longest_silent(now) && self.connection_limit.prove();
            if !has_room {
                self.output.outcomes.push((address, Handshake::Refused));
                return self.close_one(id);
            }
        }
        if let Some(session) = self.find(id) {
            session.is_proven = true;
            self.unproven.finished_len -= 1;
            // With its first message OpenSSL's part of it was freed.
            self.given_back.freed += 1;
            self.count_out(address);
        }
    }

    /// Ends sessions over which nobody has authenticated in time, and those whose places others need.
    pub(super) fn end_unproven(&mut self, now: Now) {
        while let Some(&id) = self.unproven.finished.front() {
            match self.unproven_since_us(id) {
                None => drop(self.unproven.finished.pop_front()),
                Some(since_us) if since_us + PROOF_US <= now.us => self.give_up(id),
                Some(_) => break,
            }
        }
        while self.connection_limit.excess() > 0 && self.end_oldest_unproven() {}
    }

    /// Ends the oldest session or handshake over which nobody has authenticated; false when there is none.
    fn end_oldest_unproven(&mut self) -> bool {
        while self.unproven.finished.front().is_some_and(|id| self.unproven_since_us(*id).is_none()) {
            self.unproven.finished.pop_front();
        }
        while self.unproven.half_open.front().is_some_and(|id| self.began_us(*id).is_none()) {
            self.unproven.half_open.pop_front();
        }
        let finished = self.unproven.finished.front().map(|id| (self.unproven_since_us(*id), *id));
        let half_open = self.unproven.half_open.front().map(|id| (self.began_us(*id), *id));
        match finished.into_iter().chain(half_open).min() {
            None => return false,
            Some((_, id)) if self.began_us(id).is_some() => self.fail(id, Handshake::TimedOut),
            Some((_, id)) => self.give_up(id),
        }
        true
    }

    /// Ends a session over which nobody has authenticated.
    fn give_up(&mut self, id: u64) {
        if let Some(session) = self.find(id) {
            let address = session.address;
            self.output.outcomes.push((address, Handshake::Unauthenticated));
            self.close_one(id);
        }
    }

    /// When the handshake of a session was finished over which nobody has authenticated.
    fn unproven_since_us(&self, id: u64) -> Option<u64> {
        let session = self.table.get(id)?;
        (session.opening.is_none() && !session.is_proven).then_some(session.begun_us)
    }

    /// Ends, of a handful of sessions over which a device has authenticated, the one that was silent longest, if that is
    /// long enough.
    fn end_longest_silent(&mut self, now: Now) -> bool {
        let longest = self.longest_silent(now);
        longest.inspect(|id| self.close_one(*id)).is_some()
    }

    /// Of a handful of sessions the one that was silent longest, if that is long enough.
    fn longest_silent(&mut self, now: Now) -> Option<u64> {
        let mut oldest: Option<(u64, u64)> = None;
        for _ in 0..CANDIDATES.min(self.table.sessions.capacity()) {
            let index = self.table.next_index();
            let Some(session) = self.table.sessions.get(index) else { continue };
            let is_silent = session.is_proven && session.heard_us + SPARE_US <= now.us;
            if is_silent && oldest.is_none_or(|(heard_us, _)| session.heard_us < heard_us) {
                oldest = Some((session.heard_us, session.id));
            }
        }
        oldest.map(|(_, id)| id)
    }

    /// One less of those that have shown nothing.
    pub(super) fn count_out(&mut self, address: SocketAddr) {
        let network = Network::of(address.ip());
        if let Some(unproven) = self.unproven.networks.get_mut(&network) {
            *unproven -= 1;
            if *unproven == 0 {
                self.unproven.networks.remove(&network);
            }
        }
    }
}
