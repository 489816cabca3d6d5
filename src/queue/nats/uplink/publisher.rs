//! Records out, each with a reply subject of its own, and acknowledgements in on these subjects.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::acknowledgement::{Acknowledgement, Answerer};
use super::in_flight::AckState;
use super::{Shared, Trouble};
use crate::protocol::uplink::{DeliveryId, Receipt, Record, RecordRefusal};
use crate::queue::count;
use crate::queue::nats::NatsStats;
use crate::queue::nats::connection::{Client, Control, DirectClient, Traffic};
use crate::queue::nats::headers;
use crate::queue::nats::wire::Delivery;
use crate::queue::nats::wire::format::{self, Publish};

/// Characters of the number of a sending: 4 digits to base 32 hold its 20 bits.
const NUMBER_DIGITS: usize = 4;

/// And those of a [`DeliveryId`]: 13 digits hold its 64 bits.
const ID_DIGITS: usize = 13;

const DIGITS: usize = NUMBER_DIGITS + ID_DIGITS;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

/// Counts of one worker that are not in the statistics yet. All workers share those, so each writes there once for many
/// records.
#[derive(Debug, Default)]
pub(super) struct Tally {
    published: Cell<u64>,
    stored: Cell<u64>,
}

impl Tally {
    /// Adds the counts to the statistics.
    fn hand_over(&self, stats: &NatsStats) {
        for (own, shared) in [(&self.published, &stats.published), (&self.stored, &stats.stored)] {
            let count = own.take();
            if count > 0 {
                shared.fetch_add(count, Ordering::Relaxed);
            }
        }
    }
}

/// Where records go.
pub(super) struct Outlet {
    pub(super) client: DirectClient,
    control: Rc<Control<DirectClient>>,
    /// Beginning of every reply subject.
    reply_prefix: Vec<u8>,
}

impl Outlet {
    /// Over that connection.
    pub(super) fn new(client: DirectClient, control: Rc<Control<DirectClient>>) -> Self {
        let reply_prefix = format!("{}.", client.traffic_inbox()).into_bytes();
        Self { client, control, reply_prefix }
    }

    /// Writes a record, where there is room for one; or posts why not.
    pub(super) fn write(&self, shared: &Shared, id: DeliveryId, record: &Record) {
        if shared.is_held_back(record) {
            return fail(shared, id);
        }
        if !format::is_subject(&record.address) {
            return refuse(shared, id, RecordRefusal::Rule("its address is no subject".to_owned()));
        }
        let mut scratch = shared.scratch.borrow_mut();
        let headers = if record.attributes.is_empty() && record.trace.is_none() {
            headers::STRUCTURED
        } else {
            scratch.clear();
            headers::write(&mut scratch, record);
            &scratch
        };
        let bytes = headers.len() + record.payload.len();
        let limit = shared.limit(self.client.max_payload());
        if bytes > limit {
            if self.control.knows_limits() {
                refuse(shared, id, too_large(bytes, limit));
            } else {
                self.control.doubt_limits();
                fail(shared, id);
            }
            return;
        }
        let Some(number) = shared.in_flight.borrow_mut().send(id, &record.address, bytes) else {
            // The epoch that follows brings the record again.
            return shared.report_trouble(Trouble::AcknowledgementsLost);
        };
        let number = encode(id, number);
        let reply = Some((self.reply_prefix.as_slice(), number.as_slice()));
        let message = Publish { subject: &record.address, reply, headers, payload: &record.payload };
        self.client.write(|out| format::publish_with_headers(out, &message));
        shared.tally.published.set(shared.tally.published.get() + 1);
    }
}

fn too_large(bytes: usize, limit: usize) -> RecordRefusal {
    RecordRefusal::TooLarge(format!("{bytes} bytes with headers, the server takes {limit} (max_payload)"))
}

/// A record that cannot be sent for now.
fn fail(shared: &Shared, id: DeliveryId) {
    count(&shared.stats.failed);
    shared.inbox.post_one(Receipt::Failed(id));
}

/// A record that no attempt will get through.
fn refuse(shared: &Shared, id: DeliveryId, refusal: RecordRefusal) {
    count(&shared.stats.failed);
    shared.inbox.post_one(Receipt::Refused(id, Box::new(refusal)));
}

impl Traffic for Shared {
    fn take(&self, message: &Delivery<'_>, now: Instant) {
        if let Some(receipt) = receipt(self, message, now) {
            self.receipts.borrow_mut().push(receipt);
        }
    }

    fn taken_all(&self, now: Instant) {
        self.tally.hand_over(&self.stats);
        let mut receipts = self.receipts.borrow_mut();
        if !receipts.is_empty() {
            self.in_flight.borrow_mut().note_progress(now);
            self.inbox.post(&mut receipts);
        }
    }

    fn write(&self) {
        let Some(outlet) = self.outlet.get() else { return };
        while outlet.client.has_room()
            && let Some((id, record)) = self.next()
        {
            outlet.write(self, id, &record);
        }
        self.tally.hand_over(&self.stats);
    }

    fn lost(&self) {
        self.disconnect();
    }
}

fn receipt(shared: &Shared, message: &Delivery<'_>, now: Instant) -> Option<Receipt> {
    let (id, number) = decode(message.subject)?;
    let acknowledgement = match shared.identity.borrow().read(message.status(), message.payload) {
        Ok(acknowledgement) => acknowledgement,
        Err(answerer) => {
            shared.note_foreign(&answerer);
            return None;
        }
    };
    let is_refusal = acknowledgement != Acknowledgement::Stored;
    let mut in_flight = shared.in_flight.borrow_mut();
    if !is_refusal && in_flight.was_refused(number, id) {
        shared.is_disputed.set(true);
    }
    let Some(state) = in_flight.state(number, id) else {
        // Of before the uplink was opened: on the same connection it still spares its record a second sending.
        if is_refusal {
            if shared.is_disputed.get() {
                shared.note_foreign(&Answerer::Namesake);
            }
            return None;
        }
        shared.tally.stored.set(shared.tally.stored.get() + 1);
        return in_flight.is_of_connection(number).then_some(Receipt::Stored(id));
    };
    if is_refusal && (shared.is_disputed.get() || state != AckState::Open) {
        if state == AckState::Stored {
            shared.is_disputed.set(true);
        }
        shared.note_foreign(&Answerer::Namesake);
        return None;
    }
    in_flight.settle(number, id, if is_refusal { AckState::Failed } else { AckState::Stored });
    if is_refusal {
        in_flight.note_refusal(number, id, now);
    }
    match acknowledgement {
        Acknowledgement::Stored => {
            shared.stored_at.set(now);
            shared.is_forbidden.set(false);
            shared.confirm();
            shared.tally.stored.set(shared.tally.stored.get() + 1);
            Some(Receipt::Stored(id))
        }
        Acknowledgement::Unstorable(refusal) => {
            shared.confirm();
            count(&shared.stats.failed);
            Some(Receipt::Refused(id, Box::new(refusal)))
        }
        Acknowledgement::Refused(cause) => {
            shared.complain("the stream refuses records", &cause);
            shared.report_trouble(Trouble::Refused);
            count(&shared.stats.failed);
            None
        }
    }
}

fn encode(id: DeliveryId, number: usize) -> [u8; DIGITS] {
    let mut digits = [0; DIGITS];
    let (first, last) = digits.split_at_mut(NUMBER_DIGITS);
    // On no machine is a pointer longer.
    write_digits(first, number as u64);
    write_digits(last, id.to_u64());
    digits
}

fn write_digits(digits: &mut [u8], mut rest: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[usize::try_from(rest & 31).unwrap_or_default()];
        rest >>= 5;
    }
}

/// The id of the delivery and the number of the sending in the last characters of a reply subject.
fn decode(subject: &[u8]) -> Option<(DeliveryId, usize)> {
    let (number, id) = subject.last_chunk::<DIGITS>()?.split_at(NUMBER_DIGITS);
    Some((DeliveryId::from_u64(read_digits(id)?), usize::try_from(read_digits(number)?).ok()?))
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
    use crate::protocol::uplink::SlotId;

    #[test]
    fn a_reply_subject_gives_back_id_and_number() {
        for id in [
            DeliveryId { slot: SlotId { index: 0, generation: 0 }, sequence: 0 },
            DeliveryId { slot: SlotId { index: 99_999, generation: 7 }, sequence: 65_535 },
            DeliveryId { slot: SlotId { index: u32::MAX, generation: u16::MAX }, sequence: u16::MAX },
        ] {
            for number in [0, 1, 31, (1 << 20) - 1] {
                let subject = [&b"_INBOX.abc."[..], &encode(id, number)].concat();
                assert_eq!(decode(&subject), Some((id, number)));
                assert!(format::is_subject(&subject));
            }
        }
        assert_eq!(decode(b"short"), None);
        assert_eq!(decode(b"_INBOX.abc.0000000000000000Z"), None);
    }
}
