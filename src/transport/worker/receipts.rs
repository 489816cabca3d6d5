//! Answers of the queue: from the inbox to sessions and CoAP endpoints.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;

use super::Worker;
use crate::protocol::limit::Now;
use crate::protocol::uplink::{Inbox, Receipt, Refusal, Token};
use crate::session::coap::endpoint_of;
use crate::transport::mqtt::connection::Connection;

impl Worker {
    /// Applies the answers of the queue, and sends windows once more in each new epoch.
    pub(super) async fn take_receipts(self: Rc<Self>, inbox: Arc<Inbox>) {
        let mut receipts = Vec::new();
        let mut touched: Vec<Rc<Connection>> = Vec::new();
        let mut epoch = 0;
        loop {
            let report = poll_fn(|cx| inbox.poll_take(cx, &mut receipts)).await;
            let now = self.core.borrow_mut().now();
            self.availability.set(report.availability);
            if !receipts.is_empty() {
                // An answer about one record, be it a failure, is no silence of the queue.
                self.progress_us.set(now.us);
            }
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
                let Some(connection) = self.find(token) else { continue };
                connection.state.borrow_mut().session.receipt(token.sequence, stored, now.us);
                // Receipts of one connection come in runs; the rare repetition costs one empty look.
                if touched.last().is_none_or(|last| !Rc::ptr_eq(last, &connection)) {
                    touched.push(connection);
                }
            }
            for connection in touched.drain(..) {
                self.act_at(now, &connection, |state, ctx| state.session.acknowledge(ctx));
            }
            if report.epoch > epoch {
                epoch = report.epoch;
                self.progress_us.set(now.us);
                // By sessions: the presence of an earlier one must not be sent again behind that of a later one.
                let mut connections = self.connections();
                connections.sort_by_cached_key(|connection| connection.state.borrow().session.id().to_owned());
                for connection in connections {
                    self.act_at(now, &connection, |state, ctx| state.session.resend(ctx));
                }
                self.resend_ports(now);
            }
            if report.wants_proof {
                self.write_heartbeat(now);
            }
            self.send_ports();
            self.resume();
            self.core.borrow_mut().uplink.flush();
        }
    }

    /// Replaces a record that the queue will never store.
    fn refused(&self, now: Now, token: Token, refusal: &Refusal) {
        if let Some(number) = endpoint_of(token) {
            self.port_refused(now, number, token, refusal);
        } else if let Some(connection) = self.find(token) {
            self.act_at(now, &connection, |state, ctx| state.session.refused(token.sequence, refusal, ctx));
        }
    }
}
