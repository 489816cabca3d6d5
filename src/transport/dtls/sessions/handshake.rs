//! Handshakes, from the first hello to the session.

use std::net::SocketAddr;

use super::{AddressEntry, INDEX_BITS, Opening, Session, Sessions};
use crate::protocol::limit::Now;
use crate::protocol::network::Network;
use crate::session::coap::PeerKey;
use crate::transport::dtls::engine::{Engine, Progress};
use crate::transport::dtls::flight::{Flight, Unfit};
use crate::transport::dtls::hello::Hello;
use crate::transport::traits::Handshake;

impl Sessions {
    pub(super) fn hello(&mut self, now: Now, from: SocketAddr, entry: AddressEntry, hello: &Hello<'_>) {
        if !self.tls.cookies.is_good(from, hello.cookie, now.unix_ms) {
            let cookie = self.tls.cookies.make(from, now.unix_ms);
            self.output.sent.push(PeerKey::Address(from), &hello.request_cookie(&cookie));
            self.output.outcomes.push((from, Handshake::CookieRequested));
            return;
        }
        // A hello that comes again begins nothing: the flight that it asks for goes out again by its timer.
        let mut known = [entry.live, entry.pending].into_iter().flatten();
        if known.any(|id| self.find(id).is_some_and(|session| session.random == hello.random)) {
            return;
        }
        if let Some(id) = entry.pending {
            self.fail(id, Handshake::Failed);
        }
        if !self.make_room(now, Network::of(from.ip())) {
            self.output.outcomes.push((from, Handshake::Refused));
            return;
        }
        self.begin(now, from, hello);
    }

    fn begin(&mut self, now: Now, from: SocketAddr, hello: &Hello<'_>) {
        let engine = Engine::accept(&self.tls.server, &self.tls.wire, hello.record);
        let Some(engine) = engine else {
            self.tls.wire.drain(|_| {});
            self.connection_limit.leave_unproven();
            self.output.outcomes.push((from, Handshake::Failed));
            return;
        };
        self.table.count += 1;
        let entry = self.table.sessions.vacant_entry();
        // The caller has seen that there is room.
        let id = self.table.count << INDEX_BITS | entry.key() as u64;
        let opening = Opening { flight: Flight::behind(hello.message), early: None };
        let (random, opening) = (hello.random, Some(Box::new(opening)));
        let (is_proven, begun_us, heard_us) = (false, now.us, now.us);
        entry.insert(Session { id, address: from, engine, random, opening, is_proven, begun_us, heard_us });
        self.unproven.half_open.push_back(id);
        self.unproven.half_open_len += 1;
        *self.unproven.networks.entry(Network::of(from.ip())).or_default() += 1;
        self.table.addresses.entry(from).or_default().pending = Some(id);
        self.advance(now, id);
    }

    /// Lets a handshake take a datagram, as far as it needs it; whether the handshake is finished.
    pub(super) fn shake(&mut self, now: Now, id: u64, datagram: &[u8]) -> bool {
        let Some(session) = self.find(id) else { return false };
        let (address, Some(opening)) = (session.address, session.opening.as_mut()) else { return false };
        let parts = match opening.flight.admit(datagram) {
            Ok(parts) => parts,
            Err(Unfit::Needless) => {
                self.output.outcomes.push((address, Handshake::Noise));
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
            self.tls.wire.fill(parts.clear);
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
        self.tls.wire.fill(&encrypted);
        if !self.advance(now, id) {
            return false;
        }
        if !parts.rest.is_empty() {
            self.tls.wire.fill(parts.rest);
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

    /// The handshake is finished: the session takes its address over.
    fn finish(&mut self, now: Now, id: u64) {
        let Some(session) = self.find(id) else { return };
        session.opening = None;
        (session.begun_us, session.heard_us) = (now.us, now.us);
        session.engine.rest();
        let address = session.address;
        self.unproven.half_open_len -= 1;
        self.unproven.finished_len += 1;
        self.unproven.finished.push_back(id);
        self.output.outcomes.push((address, Handshake::Finished));
        let entry = self.table.addresses.entry(address).or_default();
        let older = entry.live.replace(id);
        entry.pending = None;
        if let Some(older) = older {
            // Its peer has forgotten it: it is told nothing.
            self.end(older);
        }
    }

    /// Ends a handshake.
    pub(super) fn fail(&mut self, id: u64, outcome: Handshake) {
        if let Some(session) = self.find(id) {
            let address = session.address;
            self.output.outcomes.push((address, outcome));
            self.end(id);
        }
    }

    /// When the handshake of a session began; `None` when it is no longer half open.
    pub(super) fn began_us(&self, id: u64) -> Option<u64> {
        let session = self.table.get(id)?;
        session.opening.as_ref().map(|_| session.begun_us)
    }
}
