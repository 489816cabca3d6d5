//! The begin of sessions, from their CONNECT on, and their end.

use std::task::{Poll, Waker};

use super::WorkerCore;
use crate::protocol::auth::Refusal;
use crate::protocol::limit::Now;
use crate::protocol::uplink::SlotId;
use crate::replica::claim::ClaimKind;
use crate::replica::{Entered, Entry};
use crate::session::identity::Identity;
use crate::session::mqtt::{Ending, Opening, Session};
use crate::transport::environment::Environment;
use crate::transport::refused::Refused;
use crate::transport::socket::ByteStream;
use crate::transport::traits::TransportKind;
use crate::transport::worker::connection::{Connection, State, will_charge};
use crate::transport::worker::starting::{Connect, StartingSession};

impl<S: ByteStream> WorkerCore<S> {
    /// Makes the device's session the one that this CONNECT asks for, which gets a slot and an id; the older one ends. The
    /// interest in the device's commands is declared. [`WorkerCore::begin`] must follow, whatever happens meanwhile.
    ///
    /// # Errors
    /// Why there is no session.
    pub fn claim(&mut self, now: Now, connect: Connect) -> Result<SlotId, Refused> {
        let will_bytes = connect.will.as_ref().map_or(0, |will| will.topic.len() + will.payload.len());
        let will_room = match will_charge(will_bytes) {
            0 => None,
            bytes => match self.starting.take_will_room(connect.network, bytes) {
                None => return Err(Refused::ConnectionLimit),
                room => room,
            },
        };
        self.environment.set_now(now);
        let session = self.connections.slots.reserve();
        let id = self.starting.next_id(now.unix_ms);
        if let Err(reason) = self.enter(now, session, &connect, &id) {
            self.connections.slots.release(session);
            return Err(reason);
        }
        let Identity { product, children, .. } = &connect.identity;
        let mut addresses = vec![(product.clone(), connect.device.clone())];
        addresses.extend(children.iter().map(|child| (child.product.clone(), child.id.clone())));
        self.starting.add(session, (connect, now.us), id, will_room);
        self.environment.downlink.attach(session, &addresses);
        Ok(session)
    }

    /// Puts the session into the directory, and ends the one that it replaces.
    fn enter(&mut self, now: Now, session: SlotId, connect: &Connect, id: &str) -> Result<(), Refused> {
        let Connect { device, identity, peer, .. } = connect;
        let index = self.replica.index;
        let entry = Entry {
            worker: index,
            slot: session,
            product: identity.product.clone(),
            session: id.into(),
            peer: peer.clone(),
            connected_ms: now.unix_ms,
            since: 0,
            replaces: false,
        };
        let older = match self.replica.directory.enter(device.clone(), entry, now) {
            Entered::Fresh => None,
            Entered::TookOver(older) => Some(older),
            Entered::ReconnectsTooOften => return Err(Refused::ReconnectLimit),
            Entered::TakenOverTooOften { is_first } => {
                if is_first {
                    self.replica.say(ClaimKind::Refused, device, id);
                }
                return Err(Refused::TakeoverLimit);
            }
        };
        let is_permitted = self.environment.registry.permits(device.as_str(), identity);
        if let Some(older) = &older {
            // Without a session to follow it the older one does not give way, it is ended, and says so.
            let ending = if is_permitted { Ending::TakenOver } else { Ending::Kicked };
            self.environment.meter.took_over(device.as_str());
            if older.worker == index {
                self.end(now, older.slot, ending);
            } else {
                self.replica.end_elsewhere(older, ending);
            }
        }
        if !is_permitted {
            self.replica.directory.remove(device, index, session, now.us);
            return Err(Refused::Identity(Refusal::Wrong));
        }
        self.replica.say(ClaimKind::Begun, device, id);
        if older.is_some() {
            self.replica.say(ClaimKind::Yielded, device, id);
        }
        Ok(())
    }

    /// Whether the session's interest in commands is in place; if not, the waker is told when it is.
    pub fn poll_attached(&mut self, session: SlotId, waker: &Waker) -> Poll<()> {
        self.starting.poll_attached(session, waker)
    }

    /// Begins a session that was claimed: its connection came by `kind` and writes to `socket`; `input` is what followed
    /// the CONNECT. False: a newer CONNECT of the device came in between, and the connection is to be closed.
    pub fn begin(&mut self, now: Now, session: SlotId, kind: TransportKind, socket: S, input: Vec<u8>) -> bool {
        let Some(starting) = self.starting.take(session) else { return false };
        self.environment.set_now(now);
        let StartingSession { connect, accepted_us, id, will_room, ending, commands, .. } = starting;
        let Connect { device, identity, version, keep_alive_secs, will, peer, .. } = connect;
        let Identity { product, children, .. } = identity;
        let replaces = self.replica.directory.replaces(device.as_str(), self.replica.index, session);
        let begins = replaces.is_some();
        if let Some(replaces) = replaces {
            let Environment { meter, .. } = &mut self.environment;
            meter.connected(kind, device.as_str(), &peer);
            let opening = Opening {
                slot: session,
                product,
                device: device.clone(),
                id,
                version,
                keep_alive_secs,
                will,
                children,
                peer: &peer,
            };
            let send = &mut self.connections.send;
            let mut begun =
                self.environment.with(now, device.as_str(), &peer, send, |ctx| Session::start(opening, ctx));
            begun.note_accepted(accepted_us);
            let mut state = State::new(begun, socket, input);
            if replaces {
                state.session.replaces_another();
            }
            state.write(send);
            state.keep_will_room(will_room);
            state.charge_will(&mut self.environment.load);
            let age_end_us = self.leaving.age_limit.end_us(now);
            self.connections
                .slots
                .fill(session, Box::new(Connection { slot: session, device, peer, age_end_us, state }));
        } else {
            self.environment.downlink.detach(session);
            self.connections.slots.release(session);
        }
        for (ticket, command) in commands.take(&mut self.environment.load) {
            self.command_of(now, session, ticket, command);
        }
        if begins {
            self.environment.uplink.flush();
            if let Some(ending) = ending {
                self.end(now, session, ending);
            } else if self.replica.connection_limit.is_draining() {
                // The drain may have gone by the sessions that had not begun.
                self.act_alone(now, session, |state, ctx| state.session.drain(Ending::Drained, ctx));
            }
        }
        begins
    }

    /// Ends a session, if it is still there; one that is about to begin ends as soon as it has.
    pub fn end(&mut self, now: Now, session: SlotId, ending: Ending) {
        let ended = self.act_alone(now, session, |state, ctx| state.session.end(ending, ctx));
        if ended.is_none() {
            self.starting.end(session, ending);
        }
    }

    /// Why a session has ended; `None`: it has not.
    pub fn ending(&self, session: SlotId) -> Option<Ending> {
        self.connections.slots.find(session)?.state.session.ending()
    }
}
