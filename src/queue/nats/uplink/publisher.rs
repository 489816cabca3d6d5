//! The two tasks of a connection: records out, each with a reply subject of its own, and acknowledgements in on these subjects.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use async_nats::{Client, Message, PublishErrorKind, Subject};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;

use super::acknowledgement::{Acknowledgement, Answerer};
use super::in_flight::AckState;
use super::{Shared, Trouble};
use crate::protocol::uplink::{DeliveryId, Receipt, Refusal};
use crate::queue::nats::connection::{Control, Listener};
use crate::queue::nats::headers;
use crate::queue::nats::stats::count;

/// Characters of the number of a sending: 4 digits to base 32 hold its 20 bits.
const NUMBER_DIGITS: usize = 4;

/// And those of a token: 13 digits hold its 64 bits.
const TOKEN_DIGITS: usize = 13;

const DIGITS: usize = NUMBER_DIGITS + TOKEN_DIGITS;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

/// Reply subjects are cut from blocks of this size, so that most cost no allocation.
const BLOCK: usize = 4096;

/// Hands records to the connection until its client has ended.
pub(super) async fn publish(shared: Rc<Shared>, client: Client, control: Rc<Control>, mut replies: ReplySubjects) {
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
        let Some(number) = shared.in_flight.borrow_mut().send(token, &subject, bytes) else {
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
                shared.in_flight.borrow_mut().settle(number, token, AckState::Failed);
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
        shared.in_flight.borrow_mut().note_progress(Instant::now());
        shared.inbox.post(&mut receipts);
        if ended {
            return;
        }
    }
}

fn receipt(shared: &Shared, message: &Message, now: Instant) -> Option<Receipt> {
    let (token, number) = decode(&message.subject)?;
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
    let Some(state) = in_flight.state(number, token) else {
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
    if is_refusal && (shared.is_disputed.get() || state != AckState::Open) {
        if state == AckState::Stored {
            shared.is_disputed.set(true);
        }
        shared.note_foreign(&Answerer::Namesake);
        return None;
    }
    in_flight.settle(number, token, if is_refusal { AckState::Failed } else { AckState::Stored });
    if is_refusal {
        in_flight.note_refusal(number, token, now);
    }
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

/// Makes the reply subjects of one worker, all below one inbox.
#[derive(Debug)]
pub(super) struct ReplySubjects {
    prefix: Bytes,
    block: BytesMut,
}

impl ReplySubjects {
    /// `inbox` without a trailing dot.
    pub(super) fn new(inbox: &str) -> Self {
        Self { prefix: Bytes::from(format!("{inbox}.")), block: BytesMut::new() }
    }

    /// The subject that the acknowledgement of this sending comes back on; `number` is below 2^20.
    pub(super) fn subject(&mut self, token: DeliveryId, number: usize) -> Subject {
        let length = self.prefix.len() + DIGITS;
        if self.block.capacity() < length {
            self.block = BytesMut::with_capacity(BLOCK.max(length));
        }
        self.block.extend_from_slice(&self.prefix);
        self.block.extend_from_slice(&encode(token, number));
        let bytes = self.block.split_to(length).freeze();
        // The inbox came from a str and the digits are ASCII.
        Subject::try_from(bytes).expect("a reply subject is UTF-8")
    }
}

fn encode(token: DeliveryId, number: usize) -> [u8; DIGITS] {
    let mut digits = [0; DIGITS];
    let (first, last) = digits.split_at_mut(NUMBER_DIGITS);
    // On no machine is a pointer longer.
    write_digits(first, number as u64);
    write_digits(last, token.to_u64());
    digits
}

fn write_digits(digits: &mut [u8], mut rest: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[usize::try_from(rest & 31).unwrap_or_default()];
        rest >>= 5;
    }
}

/// The token and the number in the last characters of a reply subject.
fn decode(subject: &str) -> Option<(DeliveryId, usize)> {
    let (number, token) = subject.as_bytes().last_chunk::<DIGITS>()?.split_at(NUMBER_DIGITS);
    Some((DeliveryId::from_u64(read_digits(token)?), usize::try_from(read_digits(number)?).ok()?))
}

fn read_digits(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| Some(number << 5 | u64::from(value(*digit)?)))
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'v' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_subject_gives_back_token_and_number() {
        let mut subjects = ReplySubjects::new("_INBOX.abc");
        for token in [
            DeliveryId { slot: 0, generation: 0, sequence: 0 },
            DeliveryId { slot: 99_999, generation: 7, sequence: 65_535 },
            DeliveryId { slot: u32::MAX, generation: u16::MAX, sequence: u16::MAX },
        ] {
            for number in [0, 1, 31, (1 << 20) - 1] {
                let subject = subjects.subject(token, number);
                assert_eq!(subject.as_str().rsplit_once('.').map(|(inbox, _)| inbox), Some("_INBOX.abc"));
                assert_eq!(decode(&subject), Some((token, number)));
            }
        }
        assert_eq!(decode("short"), None);
        assert_eq!(decode("_INBOX.abc.0000000000000000Z"), None);
    }
}
