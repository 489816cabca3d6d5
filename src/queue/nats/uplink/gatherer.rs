//! Acknowledgements from the subscription to the inbox.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use async_nats::{Message, Subscriber};
use futures_util::StreamExt;

use super::{Shared, Trouble};
use crate::protocol::uplink::Receipt;
use crate::queue::nats::acknowledgement::Acknowledgement;
use crate::queue::nats::reply_subject;
use crate::queue::nats::stats::count;

/// Turns what comes on the reply subjects into receipts until the client has ended.
pub(super) async fn gather(shared: Rc<Shared>, mut acknowledgements: Subscriber) {
    let mut receipts = Vec::new();
    loop {
        let ended = poll_fn(|cx| {
            loop {
                match acknowledgements.poll_next_unpin(cx) {
                    Poll::Ready(Some(message)) => receipts.extend(receipt(&shared, &message)),
                    Poll::Ready(None) => return Poll::Ready(true),
                    Poll::Pending if receipts.is_empty() => return Poll::Pending,
                    Poll::Pending => return Poll::Ready(false),
                }
            }
        })
        .await;
        shared.outstanding.borrow_mut().note_progress(Instant::now());
        shared.inbox.post(&mut receipts);
        if ended {
            return;
        }
    }
}

fn receipt(shared: &Shared, message: &Message) -> Option<Receipt> {
    let (token, lap) = reply_subject::decode(&message.subject)?;
    let acknowledgement = match shared.identity.borrow().read(message) {
        Ok(acknowledgement) => acknowledgement,
        Err(answerer) => {
            if shared.stats.note_foreign(&answerer.to_string()) {
                tracing::warn!(
                    %answerer,
                    "somebody else answers records: only the stream of the configuration acknowledges them"
                );
            }
            return None;
        }
    };
    let is_of_this_life = shared.outstanding.borrow_mut().acknowledge(lap);
    match acknowledgement {
        Acknowledgement::Stored => {
            if is_of_this_life {
                shared.prove();
            }
            count(&shared.stats.stored);
            return Some(Receipt::Stored(token));
        }
        Acknowledgement::Unstorable(cause) => {
            if is_of_this_life {
                shared.prove();
            }
            shared.complain("a record cannot be stored as it is", &cause);
        }
        Acknowledgement::Refused(cause) => {
            shared.complain("the stream refuses records", &cause);
            if is_of_this_life {
                shared.end_life(Trouble::Refused);
            }
        }
    }
    count(&shared.stats.failed);
    Some(Receipt::Failed(token))
}
