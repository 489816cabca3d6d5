//! Sessions that end one by one while the worker goes on: for their age, or since an operator sheds some.
//!
//! They drain as all sessions do when the replica ends: what the device sent is acknowledged first, then `offline` is written
//! and the connection closed. Nobody is sent away while the queue is away, as every CONNECT is refused then.

use super::WorkerCore;
use crate::protocol::limit::Now;
use crate::protocol::uplink::{Availability, SlotId};
use crate::session::mqtt::Ending;
use crate::transport::socket::ByteStream;

impl<S: ByteStream> WorkerCore<S> {
    /// Lets so many sessions drain, or as many as there are. The next call goes on where this one has stopped, so no device is
    /// sent away twice before all others were once.
    pub(super) fn shed(&mut self, now: Now, count: usize) {
        if !self.may_send_away(now) {
            return;
        }
        self.environment.set_now(now);
        let places = self.connections.slots.places();
        let mut left = count;
        for _ in 0..places {
            if left == 0 {
                break;
            }
            let place = self.connections.shed_place % places;
            self.connections.shed_place = place + 1;
            let connection = self.connections.slots.at(place);
            let serving = connection.filter(|connection| connection.state.session.is_serving());
            if let Some(session) = serving.map(|connection| connection.slot) {
                self.send_away(now, session, Ending::Shed);
                left -= 1;
            }
        }
        self.environment.uplink.flush();
    }

    /// Lets a session drain that is too old.
    pub(super) fn end_for_age(&mut self, now: Now, session: SlotId) {
        let Some(connection) = self.connections.slots.find(session) else { return };
        let is_too_old = now.us >= connection.age_end_us && connection.state.session.is_serving();
        if is_too_old && self.may_send_away(now) {
            self.send_away(now, session, Ending::Age);
        }
    }

    fn may_send_away(&self, now: Now) -> bool {
        self.queue(now) == Availability::Ok && !self.replica.connection_limit.is_draining()
    }

    fn send_away(&mut self, now: Now, session: SlotId, ending: Ending) {
        let Some(connection) = self.connections.slots.find(session) else { return };
        self.replica.directory.note_leaving(&connection.device, self.replica.index, session);
        self.act(now, session, |state, ctx| state.session.drain(ending, ctx));
    }
}
