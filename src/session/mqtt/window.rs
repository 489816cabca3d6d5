//! Records that a session has handed to the queue and that are not acknowledged yet.
//!
//! 1. A record is added ([`Window::push`]) and handed over at once, unless the window is stalled.
//! 2. Receipts mark entries ([`Window::settle`]); the stored ones at the front leave, in order ([`Window::pop`]).
//! 3. A failure stalls the window: nothing more is handed over, later receipts of this epoch still count.
//! 4. When the queue takes records again, and about once a second while a failure of one record alone stalls the window
//!    ([`Window::resend`]), everything that is left is sent once more, in order and under new sequence numbers, so that
//!    receipts of earlier copies do not count.
//! 5. Presence that a session leaves unacknowledged at its end is withdrawn ([`Window::withdraw_presence`]): it is not sent
//!    again, since the next session of the device may have been announced in between. Its entry stays until its fate is
//!    known. Where it must be stored all the same it is kept ([`Window::keep_presence`]).
//! 6. A record that the queue will never store ([`Window::refused`]) is replaced ([`Window::replace`]); those behind it
//!    are not sent again for it.
//!
//! An entry that was stored behind one that was not is kept and sent again too. So the copies whose receipts counted are stored
//! in the order in which the device sent, wherever other copies are: consumers rest on that (docs/wire.md, "Order and
//! duplicates").

use std::collections::VecDeque;

use crate::codec::mqtt::PacketId;
use crate::protocol::trace::Span;
use crate::protocol::uplink::{DeliveryId, Handover, Record, Uplink};

/// Most entries that a new buffer has room for; it grows from there.
const USUAL_MAX: u16 = 64;

/// Acknowledgement that the device gets once the entry and all before it are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledgement {
    /// Nothing: QoS 0.
    None,
    /// PUBACK.
    Puback(PacketId),
    /// PUBREC.
    Pubrec(PacketId),
    /// Nothing: presence, which the bridge itself writes about the device. It is kept until it is stored.
    Presence,
}

/// Fate of presence that was not acknowledged when its session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LatePresence {
    /// It is stored: in the order in which this worker handed records over, and perhaps behind those of others.
    Stored,
    /// No receipt came. It may be stored, behind any other record.
    Unknown,
}

/// An entry that left the window.
#[derive(Debug)]
pub struct Settled {
    /// Acknowledgement that the device gets.
    pub acknowledgement: Acknowledgement,
    /// Time of its receipt from the device, us of the worker's clock.
    pub taken_us: u64,
    /// Bytes that it counted for in [`Load::held_bytes`](crate::protocol::limit::Load::held_bytes).
    pub held_bytes: usize,
    /// Fate of presence that was not acknowledged when its session ended; `None` for all other entries.
    pub late: Option<LatePresence>,
    /// Time between the handover of the stored copy and its receipt, us; `None` for a packet without a record.
    pub queue_us: Option<u64>,
    /// Span, where the trace is sampled.
    pub span: Option<Box<Span>>,
}

#[derive(Debug)]
struct Entry {
    record: Option<Record>,
    span: Option<Box<Span>>,
    acknowledgement: Acknowledgement,
    taken_us: u64,
    /// Time of the last handover; once it is stored, the time that storing took.
    queue_us: u64,
    stored: bool,
    /// Whether the queue took a copy, be it one of an earlier sending.
    was_taken: bool,
    /// Whether the entry is not sent again.
    withdrawn: bool,
    /// See [`Settled::late`].
    late: Option<LatePresence>,
}

impl Entry {
    fn settled(&mut self) -> Settled {
        Settled {
            acknowledgement: self.acknowledgement,
            taken_us: self.taken_us,
            held_bytes: self.record.as_ref().map_or(0, Record::held_bytes),
            late: self.late,
            queue_us: self.record.as_ref().map(|_| self.queue_us),
            span: self.span.take(),
        }
    }
}

/// The window of one session; the module says how it works.
#[derive(Debug)]
pub struct Window {
    slot: u32,
    generation: u16,
    /// Sequence number of the front entry.
    base: u16,
    /// Number of entries that were handed over, counted from the front.
    sent: usize,
    stalled: bool,
    /// Largest number of entries since the window was last empty.
    most: u16,
    /// The same number of the time before that: the capacity of the next buffer.
    usual: u16,
    entries: VecDeque<Entry>,
}

impl Window {
    /// An empty window for the connection in that slot.
    pub fn new(slot: u32, generation: u16) -> Self {
        Self { slot, generation, base: 0, sent: 0, stalled: false, most: 0, usual: 0, entries: VecDeque::new() }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the window is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Time of receipt of the oldest entry, us of the worker's clock.
    pub fn oldest_us(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.taken_us)
    }

    /// Whether records wait for [`Window::resend`].
    pub fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Adds a record and hands it over. Without a record the entry only keeps the place of a packet in the order of
    /// acknowledgements.
    pub fn push(
        &mut self,
        record: Option<Record>,
        span: Option<Box<Span>>,
        acknowledgement: Acknowledgement,
        taken_us: u64,
        uplink: &mut dyn Uplink,
    ) {
        let stored = record.is_none();
        if self.entries.capacity() == 0 {
            self.entries.reserve_exact(usize::from(self.usual));
        }
        self.entries.push_back(Entry {
            record,
            span,
            acknowledgement,
            taken_us,
            queue_us: taken_us,
            stored,
            was_taken: false,
            withdrawn: false,
            late: None,
        });
        self.most = self.most.max(u16::try_from(self.entries.len()).unwrap_or(u16::MAX));
        self.hand_over(taken_us, uplink);
    }

    /// Applies a receipt that came at `now_us`; one of an earlier copy, or of an entry that has left, changes nothing.
    pub fn settle(&mut self, sequence: u16, stored: bool, now_us: u64) {
        match self.index(sequence).and_then(|index| self.entries.get_mut(index)) {
            Some(entry) if !entry.stored && stored => {
                entry.stored = true;
                entry.queue_us = now_us.saturating_sub(entry.queue_us);
            }
            Some(entry) if entry.withdrawn && !entry.stored => (entry.stored, entry.late) = (true, None),
            Some(entry) if !entry.stored => self.stalled = true,
            _ => {}
        }
    }

    /// The record that was handed over under that number and that the queue refuses for good; `None` for an earlier copy,
    /// or an entry that has left.
    pub fn refused(&self, sequence: u16) -> Option<&Record> {
        let entry = self.entries.get(self.index(sequence)?)?;
        entry.record.as_ref().filter(|_| !entry.stored && !entry.withdrawn)
    }

    /// Replaces the record with that number by `record` and hands it over, at `now_us`. The number stays: the refused copy
    /// has had its only receipt. While the window is stalled the replacement waits like all others.
    pub fn replace(&mut self, sequence: u16, record: Record, now_us: u64, uplink: &mut dyn Uplink) {
        let Some(index) = self.index(sequence) else { return };
        let token = self.token(index);
        let Some(entry) = self.entries.get_mut(index) else { return };
        let record = entry.record.insert(record);
        entry.queue_us = now_us;
        if !self.stalled && uplink.publish(token, record) == Handover::Refused {
            self.stalled = true;
        }
    }

    /// Withdraws presence that has not left the window. Presence that was never handed over is dropped. Presence that was may
    /// still be stored: its entry leaves when its receipt comes, or when receipts of its copies do not count any more.
    /// Presence that is stored behind a record that is not is withdrawn as well: it must not be sent again with that record.
    pub fn withdraw_presence(&mut self) {
        for (index, entry) in self.entries.iter_mut().enumerate() {
            if entry.acknowledgement == Acknowledgement::Presence {
                entry.withdrawn = true;
                let has_receipt = index < self.sent;
                entry.late = match (has_receipt, entry.was_taken) {
                    (true, _) => Some(LatePresence::Stored),
                    // The queue had no room for the last sending; a copy of an earlier one may still be on its way.
                    (false, true) => Some(LatePresence::Unknown),
                    (false, false) => None,
                };
                entry.stored |= !has_receipt;
            }
        }
    }

    /// Marks presence that has not left the window as late; it is sent again like every other record.
    pub fn keep_presence(&mut self) {
        let presence = self.entries.iter_mut().filter(|entry| entry.acknowledgement == Acknowledgement::Presence);
        presence.for_each(|entry| entry.late = Some(LatePresence::Stored));
    }

    /// Removes the front entry if it is stored.
    pub fn pop(&mut self) -> Option<Settled> {
        let mut entry = self.entries.pop_front_if(|entry| entry.stored)?;
        self.base = self.base.wrapping_add(1);
        self.sent = self.sent.saturating_sub(1);
        if self.entries.is_empty() {
            // An idle connection holds no buffer. The next one is made as large as this one was filled.
            self.entries = VecDeque::new();
            self.usual = std::mem::take(&mut self.most).min(USUAL_MAX);
        }
        Some(entry.settled())
    }

    /// Sends all records that are left once more, at `now_us`: the queue takes records again. Withdrawn presence is not sent,
    /// and its fate stays unknown, as its copy may still be stored.
    pub fn resend(&mut self, now_us: u64, uplink: &mut dyn Uplink) {
        self.forget_copies();
        self.stalled = false;
        for entry in &mut self.entries {
            if entry.withdrawn && !entry.stored {
                entry.late = Some(LatePresence::Unknown);
            }
            entry.stored = entry.record.is_none() || entry.withdrawn;
        }
        self.hand_over(now_us, uplink);
    }

    /// Drops every record of the device, in order and without acknowledgement. Presence stays: it is sent once more unless it
    /// is withdrawn, and its time of receipt becomes `now_us`.
    pub fn abandon(&mut self, now_us: u64, uplink: &mut dyn Uplink, mut gone: impl FnMut(Settled)) {
        self.forget_copies();
        self.entries.retain_mut(|entry| {
            let kept = entry.acknowledgement == Acknowledgement::Presence;
            if kept {
                entry.taken_us = now_us;
            } else {
                gone(entry.settled());
            }
            kept
        });
        self.resend(now_us, uplink);
    }

    /// Skips the sequence numbers in use, so that receipts of the copies so far do not count any more.
    fn forget_copies(&mut self) {
        self.base = self.base.wrapping_add(u16::try_from(self.entries.len()).unwrap_or(u16::MAX));
        self.sent = 0;
    }

    /// Index of the entry whose last copy was handed over under that number.
    fn index(&self, sequence: u16) -> Option<usize> {
        let index = usize::from(sequence.wrapping_sub(self.base));
        (index < self.sent).then_some(index)
    }

    fn token(&self, index: usize) -> DeliveryId {
        #[expect(clippy::cast_possible_truncation, reason = "sequence numbers are modulo 2^16")]
        let sequence = self.base.wrapping_add(index as u16);
        DeliveryId { slot: self.slot, generation: self.generation, sequence }
    }

    fn hand_over(&mut self, now_us: u64, uplink: &mut dyn Uplink) {
        while !self.stalled {
            let token = self.token(self.sent);
            let Some(entry) = self.entries.get_mut(self.sent) else { return };
            entry.queue_us = now_us;
            let record = entry.record.as_ref().filter(|_| !entry.withdrawn);
            match record.map(|record| uplink.publish(token, record)) {
                None => self.sent += 1,
                Some(Handover::Taken) => (self.sent, entry.was_taken) = (self.sent + 1, true),
                Some(Handover::Refused) => self.stalled = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::mqtt::fake::{FakeUplink, record};

    fn id(number: u16) -> PacketId {
        PacketId::new(number).expect("tests use ids above 0")
    }

    fn popped(window: &mut Window) -> Vec<Acknowledgement> {
        std::iter::from_fn(|| window.pop()).map(|settled| settled.acknowledgement).collect()
    }

    fn filled(uplink: &mut FakeUplink, count: u16) -> Window {
        let mut window = Window::new(3, 4);
        for number in 1..=count {
            let acknowledgement = Acknowledgement::Puback(id(number));
            window.push(Some(record(&number.to_string())), None, acknowledgement, u64::from(number), uplink);
        }
        window
    }

    #[test]
    fn an_empty_window_holds_no_buffer_and_the_next_one_fits_what_the_last_one_held() {
        let mut uplink = FakeUplink::default();
        let mut window = filled(&mut uplink, 20);
        for (sequence, next) in [(0..20, 20), (20..23, 3)] {
            sequence.for_each(|sequence| window.settle(sequence, true, 9));
            popped(&mut window);
            assert_eq!(window.entries.capacity(), 0);
            for _ in 0..3 {
                window.push(Some(record("")), None, Acknowledgement::None, 9, &mut uplink);
            }
            assert_eq!(window.entries.capacity(), next);
        }
    }

    #[test]
    fn acknowledgements_leave_in_the_order_of_receipt_however_receipts_come() {
        let mut uplink = FakeUplink::default();
        let mut window = filled(&mut uplink, 3);
        window.settle(uplink.sequence(1), true, 9);
        window.settle(uplink.sequence(2), true, 9);
        assert_eq!(popped(&mut window), []);
        window.settle(uplink.sequence(0), true, 9);
        let expected = [1, 2, 3].map(|number| Acknowledgement::Puback(id(number)));
        assert_eq!(popped(&mut window), expected);
        assert!(window.is_empty());
    }

    #[test]
    fn after_a_failure_everything_left_is_sent_again_in_order_and_old_receipts_mean_nothing() {
        let mut uplink = FakeUplink::default();
        let mut window = filled(&mut uplink, 4);
        window.settle(uplink.sequence(0), true, 9);
        assert_eq!(popped(&mut window).len(), 1);
        window.settle(uplink.sequence(1), false, 9);
        window.settle(uplink.sequence(2), true, 9);
        window.push(Some(record("5")), None, Acknowledgement::Puback(id(5)), 5, &mut uplink);
        assert_eq!(uplink.payloads(), ["1", "2", "3", "4"], "a stalled window hands nothing over");
        assert_eq!(popped(&mut window), []);
        window.resend(9, &mut uplink);
        assert_eq!(uplink.payloads()[4..], ["2", "3", "4", "5"]);
        for old in 0..4 {
            window.settle(uplink.sequence(old), true, 9);
        }
        assert_eq!(popped(&mut window), [], "a receipt of an earlier copy acknowledged");
        for copy in 4..8 {
            window.settle(uplink.sequence(copy), true, 9);
        }
        assert_eq!(popped(&mut window).len(), 4);
    }

    #[test]
    fn the_time_in_the_queue_is_that_of_the_stored_copy_and_a_packet_without_a_record_has_none() {
        let mut uplink = FakeUplink::default();
        let mut window = Window::new(3, 4);
        window.push(Some(record("1")), None, Acknowledgement::None, 10, &mut uplink);
        window.push(Some(record("2")), None, Acknowledgement::None, 20, &mut uplink);
        window.push(None, None, Acknowledgement::None, 30, &mut uplink);
        window.settle(uplink.sequence(0), true, 25);
        // A second receipt of the same copy changes nothing.
        window.settle(uplink.sequence(0), true, 99);
        assert_eq!(window.pop().and_then(|settled| settled.queue_us), Some(15));
        window.settle(uplink.sequence(1), false, 40);
        window.resend(1_000, &mut uplink);
        window.settle(uplink.sequence(2), true, 1_007);
        let left: Vec<_> =
            std::iter::from_fn(|| window.pop()).map(|settled| (settled.taken_us, settled.queue_us)).collect();
        assert_eq!(left, [(20, Some(7)), (30, None)]);
    }

    #[test]
    fn a_refused_handover_stalls_until_the_queue_is_back() {
        let mut uplink = FakeUplink { refuses: true, ..FakeUplink::default() };
        let mut window = filled(&mut uplink, 2);
        assert_eq!(uplink.payloads(), [""; 0]);
        uplink.refuses = false;
        window.resend(9, &mut uplink);
        assert_eq!(uplink.payloads(), ["1", "2"]);
    }

    #[test]
    fn a_record_that_the_queue_never_stores_is_replaced_without_sending_others_again() {
        let mut uplink = FakeUplink::default();
        let mut window = filled(&mut uplink, 3);
        let refused = uplink.sequence(1);
        assert_eq!(window.refused(refused), Some(&record("2")));
        window.replace(refused, record("rejected"), 9, &mut uplink);
        assert_eq!(uplink.payloads(), ["1", "2", "3", "rejected"]);
        for sequence in [uplink.sequence(0), uplink.sequence(2)] {
            window.settle(sequence, true, 9);
        }
        assert_eq!(popped(&mut window).len(), 1, "a record was acknowledged before its replacement was stored");
        window.settle(uplink.sequence(3), true, 9);
        assert_eq!(popped(&mut window), [2, 3].map(|number| Acknowledgement::Puback(id(number))));
        assert_eq!(window.refused(refused), None, "an entry that has left was refused");
    }

    #[test]
    fn a_replacement_takes_part_when_the_window_is_sent_again() {
        let mut uplink = FakeUplink::default();
        let mut window = filled(&mut uplink, 3);
        let (failed, refused) = (uplink.sequence(0), uplink.sequence(1));
        window.settle(failed, false, 9);
        assert!(window.is_stalled());
        window.replace(refused, record("rejected"), 9, &mut uplink);
        assert_eq!(uplink.payloads(), ["1", "2", "3"], "a stalled window hands nothing over");
        window.resend(9, &mut uplink);
        assert_eq!(uplink.payloads()[3..], ["1", "rejected", "3"]);
        assert_eq!(window.refused(refused), None, "an earlier copy was refused");
    }

    #[test]
    fn a_packet_without_a_record_is_acknowledged_in_its_place() {
        let mut uplink = FakeUplink::default();
        let mut window = filled(&mut uplink, 1);
        window.push(None, None, Acknowledgement::Puback(id(2)), 2, &mut uplink);
        assert_eq!(popped(&mut window), []);
        window.settle(uplink.sequence(0), true, 9);
        assert_eq!(popped(&mut window), [1, 2].map(|number| Acknowledgement::Puback(id(number))));
    }

    #[test]
    fn withdrawn_presence_is_not_sent_again_and_leaves_once_its_copies_mean_nothing() {
        let mut uplink = FakeUplink::default();
        let mut window = Window::new(3, 4);
        window.push(Some(record("online")), None, Acknowledgement::Presence, 1, &mut uplink);
        uplink.refuses = true;
        window.push(Some(record("child online")), None, Acknowledgement::Presence, 1, &mut uplink);
        window.withdraw_presence();
        window.push(Some(record("offline")), None, Acknowledgement::Presence, 2, &mut uplink);
        assert!(window.pop().is_none(), "its fate is not known");
        window.abandon(9, &mut uplink, |_| panic!("presence was given up"));
        let late: Vec<_> = std::iter::from_fn(|| window.pop()).map(|settled| settled.late).collect();
        assert_eq!(late, [Some(LatePresence::Unknown), None], "the one that was never handed over cannot be late");
        uplink.refuses = false;
        window.resend(9, &mut uplink);
        assert_eq!(uplink.payloads(), ["online", "offline"]);
        window.settle(uplink.sequence(1), true, 9);
        assert!(window.pop().is_some_and(|settled| settled.late.is_none()) && window.is_empty());
    }

    #[test]
    fn withdrawn_presence_that_is_stored_after_all_is_late_and_one_that_failed_is_not() {
        for (stored, expected) in [(true, Some(LatePresence::Stored)), (false, None)] {
            let mut uplink = FakeUplink::default();
            let mut window = Window::new(3, 4);
            window.push(Some(record("online")), None, Acknowledgement::Presence, 1, &mut uplink);
            window.withdraw_presence();
            assert!(window.pop().is_none());
            window.settle(uplink.sequence(0), stored, 9);
            assert_eq!(window.pop().map(|settled| settled.late), Some(expected));
            assert!(!window.is_stalled());
        }
    }

    #[test]
    fn what_is_abandoned_is_never_acknowledged_and_presence_stays() {
        let mut uplink = FakeUplink::default();
        let mut window = filled(&mut uplink, 2);
        window.push(Some(record("offline")), None, Acknowledgement::Presence, 3, &mut uplink);
        let mut gone = Vec::new();
        window.abandon(9, &mut uplink, |settled| gone.push(settled.acknowledgement));
        assert_eq!(gone, [1, 2].map(|number| Acknowledgement::Puback(id(number))));
        for copy in 0..3 {
            window.settle(uplink.sequence(copy), true, 9);
        }
        assert_eq!(popped(&mut window), []);
        assert_eq!(uplink.payloads()[3..], ["offline"]);
        assert_eq!(window.oldest_us(), Some(9));
        window.settle(uplink.sequence(3), true, 9);
        assert_eq!(popped(&mut window), [Acknowledgement::Presence]);
    }

    #[test]
    fn withdrawn_presence_that_was_stored_behind_a_failed_record_is_not_sent_again_with_it() {
        let mut uplink = FakeUplink::default();
        let mut window = filled(&mut uplink, 1);
        window.push(Some(record("online")), None, Acknowledgement::Presence, 2, &mut uplink);
        window.settle(0, false, 9);
        window.settle(1, true, 9);
        window.withdraw_presence();
        window.resend(10, &mut uplink);
        assert_eq!(uplink.payloads(), ["1", "online", "1"]);
        window.settle(uplink.sequence(2), true, 11);
        let left: Vec<_> = std::iter::from_fn(|| window.pop()).map(|settled| settled.late).collect();
        assert_eq!(left, [None, Some(LatePresence::Stored)]);
    }

    #[test]
    fn withdrawn_presence_of_which_an_earlier_copy_was_taken_may_be_stored_although_the_last_was_refused() {
        let mut uplink = FakeUplink::default();
        let mut window = Window::new(3, 4);
        window.push(Some(record("online")), None, Acknowledgement::Presence, 1, &mut uplink);
        uplink.refuses = true;
        window.push(Some(record("1")), None, Acknowledgement::None, 2, &mut uplink);
        window.resend(3, &mut uplink);
        window.withdraw_presence();
        assert_eq!(window.pop().and_then(|settled| settled.late), Some(LatePresence::Unknown));
    }
}
