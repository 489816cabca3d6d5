//! Records from the line to the connection.

use std::future::poll_fn;
use std::rc::Rc;

use async_nats::{Client, PublishErrorKind, Subject};

use super::Shared;
use crate::protocol::uplink::{Receipt, Token};
use crate::queue::nats::control::Control;
use crate::queue::nats::headers;
use crate::queue::nats::reply_subject::ReplySubjects;
use crate::queue::nats::stats::count;

/// Hands records to the connection until its client has ended.
pub(super) async fn write(shared: Rc<Shared>, client: Client, control: Rc<Control>, mut replies: ReplySubjects) {
    let structured = headers::structured();
    loop {
        let (token, record) = poll_fn(|cx| shared.poll_next(cx)).await;
        if shared.is_held_back(&record) {
            count(&shared.stats.failed);
            shared.inbox.post_one(Receipt::Failed(token));
            continue;
        }
        let Ok(subject) = Subject::try_from(record.address) else {
            refuse(&shared, token, "a subject is not UTF-8");
            continue;
        };
        let lap = shared.outstanding.borrow_mut().send();
        let reply = replies.subject(token, lap);
        let headers =
            if record.attributes.is_empty() { structured.clone() } else { headers::binary(&record.attributes) };
        let headers = headers::traced(headers, record.trace);
        match client.publish_with_reply_and_headers(subject, reply, headers, record.payload).await {
            Ok(()) => count(&shared.stats.published),
            Err(error) if error.kind() == PublishErrorKind::Send => return,
            Err(error) => {
                if error.kind() == PublishErrorKind::MaxPayloadExceeded {
                    control.doubt_limits();
                }
                shared.outstanding.borrow_mut().acknowledge(lap);
                refuse(&shared, token, &error.to_string());
            }
        }
    }
}

/// A record that no attempt will get through: its connection alone suffers, by its deadline.
fn refuse(shared: &Shared, token: Token, cause: &str) {
    count(&shared.stats.failed);
    shared.complain("a record cannot be stored as it is", cause);
    shared.inbox.post_one(Receipt::Failed(token));
}
