//! Callers of commands, and the server between them and the replicas.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use jetlinks_bridge::protocol::downlink::{Downlink, Outcome, Ticket};
use jetlinks_bridge::protocol::id::{DeviceId, ProductId};
use jetlinks_bridge::protocol::uplink::{Availability, SlotId};

use crate::node::At;

/// Requests of a replica to the server, until the world has carried them out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// The interest of that session is to be there.
    Attach(SlotId, String),
    /// It is to be gone.
    Detach(SlotId),
    /// Everything that was sent before is to be there.
    Barrier(u64),
    /// A caller gets its outcome.
    Answer(Ticket, Outcome),
}

/// The replica's end of the connection to the server.
#[derive(Debug, Default)]
pub(crate) struct DownlinkState {
    requests: Vec<Request>,
    /// Commands that the replica was given, and those of them that it has answered.
    given: BTreeSet<u64>,
    answered: BTreeSet<u64>,
    /// Commands that it answered twice, or that it never got.
    wrong: Vec<u64>,
    is_away: bool,
}

impl DownlinkState {
    /// Requests of the replica since the last call.
    pub(crate) fn take_requests(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.requests)
    }

    /// Notes a command that the replica gets.
    pub(crate) fn give(&mut self, ticket: Ticket) {
        self.given.insert(ticket.0);
    }

    /// Commands that wait for their outcome.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = &u64> {
        self.given.difference(&self.answered)
    }

    /// Commands with an outcome too many.
    pub(crate) fn wrong(&self) -> &[u64] {
        &self.wrong
    }

    /// Whether the server can be reached.
    pub(crate) fn set_away(&mut self, is_away: bool) {
        self.is_away = is_away;
    }
}

/// The replica's end.
#[derive(Debug)]
pub(crate) struct Server(pub(crate) Rc<RefCell<DownlinkState>>);

impl Downlink for Server {
    fn attach(&mut self, session: SlotId, addresses: &[(ProductId, DeviceId)]) {
        let device = addresses.first().map_or("", |(_, device)| device.as_str());
        self.0.borrow_mut().requests.push(Request::Attach(session, device.to_owned()));
    }

    fn detach(&mut self, session: SlotId) {
        self.0.borrow_mut().requests.push(Request::Detach(session));
    }

    fn answer(&mut self, ticket: Ticket, outcome: Outcome) {
        let downlink_state = &mut *self.0.borrow_mut();
        if !downlink_state.given.contains(&ticket.0) || !downlink_state.answered.insert(ticket.0) {
            downlink_state.wrong.push(ticket.0);
        }
        downlink_state.requests.push(Request::Answer(ticket, outcome));
    }

    fn send_barrier(&mut self, number: u64) -> bool {
        let downlink_state = &mut *self.0.borrow_mut();
        if !downlink_state.is_away {
            downlink_state.requests.push(Request::Barrier(number));
        }
        !downlink_state.is_away
    }

    fn availability(&self) -> Availability {
        if self.0.borrow().is_away { Availability::Away } else { Availability::Ok }
    }
}

/// Which replicas want the commands of which device, and what became of all commands.
#[derive(Debug, Default)]
pub(crate) struct Callers {
    /// The devices, by worker and session.
    interests: BTreeMap<(At, SlotId), String>,
    asked: u64,
}

impl Callers {
    /// Another command.
    pub(crate) fn ask(&mut self) -> Ticket {
        self.asked += 1;
        Ticket(self.asked)
    }

    /// How many commands there were.
    pub(crate) fn asked(&self) -> u64 {
        self.asked
    }

    /// The interest of a session is in place.
    pub(crate) fn attach(&mut self, at: At, session: SlotId, device: String) {
        self.interests.insert((at, session), device);
    }

    /// It is gone.
    pub(crate) fn detach(&mut self, at: At, session: SlotId) {
        self.interests.remove(&(at, session));
    }

    /// Whether that session still wants commands.
    pub(crate) fn wants(&self, at: At, session: SlotId) -> bool {
        self.interests.contains_key(&(at, session))
    }

    /// A replica is gone, with all its interests.
    pub(crate) fn forget(&mut self, node: usize) {
        self.interests.retain(|(at, _), _| at.node != node);
    }

    /// Whether no session wants commands.
    pub(crate) fn is_empty(&self) -> bool {
        self.interests.is_empty()
    }

    /// The sessions that get a command of that device.
    pub(crate) fn interested(&self, device: &str) -> Vec<(At, SlotId)> {
        let all = self.interests.iter().filter(|(_, of)| *of == device);
        all.map(|((at, session), _)| (*at, *session)).collect()
    }
}
