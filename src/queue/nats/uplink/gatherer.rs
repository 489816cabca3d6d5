//! Acknowledgements from the subscription to the inbox.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use async_nats::Message;
use futures_util::StreamExt;

use super::acknowledgement::{Acknowledgement, Answerer};
use super::in_flight::AckState;
use super::{Shared, Trouble, reply_subject};
use crate::protocol::uplink::Receipt;
use crate::queue::nats::connection::Listener;
use crate::queue::nats::stats::count;

/// Turns what comes on the reply subjects into receipts until the client has ended.
pub(super) async fn gather(shared: Rc<Shared>, mut acknowledgements: Listener) {
    let mut receipts = Vec::new();
    loop {
        let ended = poll_fn(|cx| {
            // Once for all that have come: the clock is a good part of what an acknowledgement costs.
            let now = Instant::now();
            loop {
                match acknowledgements.poll_next_unpin(cx) {
                    Poll::Ready(Some(message)) => receipts.extend(receipt(&shared, &message, now)),
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

fn receipt(shared: &Shared, message: &Message, now: Instant) -> Option<Receipt> {
    let (token, number) = reply_subject::decode(&message.subject)?;
    let acknowledgement = match shared.identity.borrow().read(message) {
        Ok(acknowledgement) => acknowledgement,
        Err(answerer) => {
            shared.note_foreign(&answerer);
            return None;
        }
    };
    let is_refusal = acknowledgement != Acknowledgement::Stored;
    let mut in_flight = shared.in_flight.borrow_mut();
    if !is_refusal && in_flight.was_refused(number, token) {
        shared.is_disputed.set(true);
    }
    let Some(sending) = in_flight.get_mut(number, token) else {
        // Of before the uplink was opened: on the same connection it still spares its record a second sending.
        if is_refusal {
            if shared.is_disputed.get() {
                shared.note_foreign(&Answerer::Namesake);
            }
            return None;
        }
        count(&shared.stats.stored);
        return in_flight.is_of_connection(number).then_some(Receipt::Stored(token));
    };
    if is_refusal && (shared.is_disputed.get() || sending.state != AckState::Open) {
        if sending.state == AckState::Stored {
            shared.is_disputed.set(true);
        }
        shared.note_foreign(&Answerer::Namesake);
        return None;
    }
    if sending.state == AckState::Open {
        shared.outstanding.borrow_mut().acknowledge(sending.second);
    }
    sending.state = if is_refusal { AckState::Failed } else { AckState::Stored };
    if is_refusal {
        in_flight.note_refusal(number, token, now);
    }
    in_flight.trim();
    match acknowledgement {
        Acknowledgement::Stored => {
            shared.stored_at.set(now);
            shared.is_forbidden.set(false);
            shared.confirm();
            count(&shared.stats.stored);
            Some(Receipt::Stored(token))
        }
        Acknowledgement::Unstorable(refusal) => {
            shared.confirm();
            count(&shared.stats.failed);
            Some(Receipt::Refused(token, Box::new(refusal)))
        }
        Acknowledgement::Refused(cause) => {
            shared.complain("the stream refuses records", &cause);
            shared.report_trouble(Trouble::Refused);
            count(&shared.stats.failed);
            None
        }
    }
}
