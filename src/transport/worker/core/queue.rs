//! Answers of the queue: to sessions and CoAP endpoints.

use super::WorkerCore;
use crate::protocol::limit::Now;
use crate::protocol::uplink::{DeliveryId, Handover, Receipt, Refusal, Report};
use crate::session::coap::endpoint_of;
use crate::transport::socket::ByteStream;

impl<S: ByteStream> WorkerCore<S> {
    /// Applies the answers of the queue, which leaves `receipts` empty, and sends windows once more in each new epoch.
    /// Datagrams are left to be sent.
    pub fn receipts(&mut self, now: Now, receipts: &mut Vec<Receipt>, report: Report) {
        self.environment.set_now(now);
        let begins_epoch = self.queue.report(report, !receipts.is_empty(), now.us);
        let mut touched = std::mem::take(&mut self.connections.touched);
        for receipt in receipts.drain(..) {
            let (token, stored) = match receipt {
                Receipt::Stored(token) => (token, true),
                Receipt::Failed(token) => (token, false),
                Receipt::Refused(token, refusal) => {
                    self.refused(now, token, &refusal);
                    continue;
                }
            };
            if let Some(number) = endpoint_of(token) {
                self.port_receipt(now, number, token, stored);
                continue;
            }
            let Some(connection) = self.connections.slots.find_mut(token) else { continue };
            connection.state.session.receipt(token.sequence, stored, now.us);
            // Receipts of one connection come in runs; the rare repetition costs one empty look.
            if touched.last() != Some(&connection.token) {
                touched.push(connection.token);
            }
        }
        for session in touched.drain(..) {
            self.act(now, session, |state, ctx| state.session.acknowledge(ctx));
        }
        self.connections.touched = touched;
        if begins_epoch {
            self.resend(now);
        }
        if report.wants_heartbeat {
            self.write_heartbeat(now);
        }
        self.resume();
        self.environment.uplink.flush();
    }

    /// Replaces a record that the queue will never store.
    fn refused(&mut self, now: Now, token: DeliveryId, refusal: &Refusal) {
        match endpoint_of(token) {
            Some(number) => self.port_refused(now, number, token, refusal),
            None => {
                self.act(now, token, |state, ctx| state.session.refused(token.sequence, refusal, ctx));
            }
        }
    }

    /// Hands over once more what is not stored.
    fn resend(&mut self, now: Now) {
        // By sessions: the presence of an earlier one must not be sent again behind that of a later one.
        let connections = self.connections.slots.iter();
        let mut sessions: Vec<(String, DeliveryId)> =
            connections.map(|connection| (connection.state.session.id().to_owned(), connection.token)).collect();
        sessions.sort_by(|(id, _), (other, _)| id.cmp(other));
        for (_, session) in sessions {
            self.act(now, session, |state, ctx| state.session.resend(ctx));
        }
        self.resend_ports(now);
    }

    /// Writes that the replica lives: because it is time, or because the queue asks for a record that proves that it
    /// stores any. A record that the queue does not take is tried again a tick later.
    pub(super) fn write_heartbeat(&mut self, now: Now) {
        let record = self.environment.encoder.replica(self.replica.directory.len() as u64);
        if self.environment.uplink.publish(DeliveryId::NOBODY, &record) == Handover::Taken {
            self.heartbeat.note_written(now.us);
        }
    }
}
