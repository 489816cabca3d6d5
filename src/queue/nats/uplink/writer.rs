//! Records from the local queue to the connection.

use std::future::poll_fn;
use std::rc::Rc;

use async_nats::{Client, PublishErrorKind, Subject};

use super::reply_subject::ReplySubjects;
use super::{Shared, Trouble};
use crate::protocol::uplink::{DeliveryId, Receipt, Refusal};
use crate::queue::nats::connection::Control;
use crate::queue::nats::headers;
use crate::queue::nats::stats::count;

/// Hands records to the connection until its client has ended.
pub(super) async fn write(shared: Rc<Shared>, client: Client, control: Rc<Control>, mut replies: ReplySubjects) {
    let structured = headers::structured();
    let structured_bytes = headers::wire_bytes(&structured);
    loop {
        let (token, record) = poll_fn(|cx| shared.poll_next(cx)).await;
        if shared.is_held_back(&record) {
            fail(&shared, token);
            continue;
        }
        let Ok(subject) = Subject::try_from(record.address) else {
            refuse(&shared, token, Refusal::Rule("its subject is not UTF-8".to_owned()));
            continue;
        };
        let is_plain = record.attributes.is_empty() && record.trace.is_none();
        let headers =
            if record.attributes.is_empty() { structured.clone() } else { headers::binary(&record.attributes) };
        let headers = headers::traced(headers, record.trace);
        let header_bytes = if is_plain { structured_bytes } else { headers::wire_bytes(&headers) };
        let bytes = header_bytes + record.payload.len();
        let limit = shared.limit(client.max_payload());
        if bytes > limit {
            if control.knows_limits() {
                refuse(&shared, token, too_large(bytes, limit));
            } else {
                control.doubt_limits();
                fail(&shared, token);
            }
            continue;
        }
        let second = shared.outstanding.borrow_mut().send();
        let Some(number) = shared.in_flight.borrow_mut().send(token, second, &subject, bytes) else {
            // The epoch that follows brings the record again.
            shared.report_trouble(Trouble::AcknowledgementsLost);
            continue;
        };
        let reply = replies.subject(token, number);
        match client.publish_with_reply_and_headers(subject, reply, headers, record.payload).await {
            Ok(()) => count(&shared.stats.published),
            Err(error) if error.kind() == PublishErrorKind::Send => return,
            // The limit has changed since it was looked at, with the connection.
            Err(error) => {
                tracing::debug!(%error, "a record was not taken by the client");
                shared.outstanding.borrow_mut().acknowledge(second);
                shared.in_flight.borrow_mut().give_up(number, token);
                fail(&shared, token);
            }
        }
    }
}

fn too_large(bytes: usize, limit: usize) -> Refusal {
    Refusal::TooLarge(format!("{bytes} bytes with headers, the server takes {limit} (max_payload)"))
}

/// A record that cannot be sent for now.
fn fail(shared: &Shared, token: DeliveryId) {
    count(&shared.stats.failed);
    shared.inbox.post_one(Receipt::Failed(token));
}

/// A record that no attempt will get through.
fn refuse(shared: &Shared, token: DeliveryId, refusal: Refusal) {
    count(&shared.stats.failed);
    shared.inbox.post_one(Receipt::Refused(token, Box::new(refusal)));
}
