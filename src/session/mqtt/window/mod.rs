//! Records of a session whose acknowledgements the device has not got yet, in the order of their PUBLISH packets.
//!
//! 1. [`Window::push`] adds a record and hands it over to the queue at once, unless the window is stalled. Before it,
//!    [`Window::take_buffer`] spares an allocation.
//! 2. [`Window::settle`] applies a receipt to its entry. [`Window::pop`] removes entries from the front, in order. After
//!    the last one [`Window::give_buffer_back`] is called.
//! 3. A failed receipt stalls the window: no more records are handed over. Receipts of records that were handed over
//!    before still count.
//! 4. [`Window::resend`] ends the stall: all records that are left are handed over again, in order. It is called when the
//!    queue takes records again. While only this window is stalled, it is called about once a second. The new copies have
//!    new sequence numbers, so receipts of earlier copies do not count.
//! 5. [`Window::withdraw_presence`] is called at the end of a session: presence that is not stored is not sent again, as
//!    the next session of the device may have written `online` since. Its entry stays until its fate is known.
//!    [`Window::keep_presence`] is called instead where presence must be stored in any case.
//! 6. [`Window::replace`] replaces a record that the queue will never store ([`Window::refused`]). The records behind it
//!    are not sent again.
//!
//! A stored record stays in the window while a record before it is not stored, and is sent again with it. So the copies
//! whose receipts count are stored in the order in which the device sent the messages; other copies may be stored anywhere.
//! Consumers rely on this order (docs/wire.md, "Order and duplicates").

mod spare;

use std::collections::VecDeque;

pub use self::spare::SpareBuffers;
use crate::codec::mqtt::PacketId;
use crate::protocol::trace::Span;
use crate::protocol::uplink::{DeliveryId, Handover, Record, SlotId, Uplink};

/// Largest capacity with which a buffer is allocated. It grows when more entries come.
const INITIAL_CAPACITY_MAX: u16 = 64;

/// Acknowledgement that the device gets once the entry and all before it are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledgement {
    /// Nothing: QoS 0.
    None,
    /// PUBACK.
    Puback(PacketId),
    /// PUBREC.
    Pubrec(PacketId),
    /// Nothing: presence, which the bridge writes about the device. [`Window::abandon`] does not drop it.
    Presence,
}

/// Fate of presence that was not acknowledged when its session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LatePresence {
    /// It is stored, in order among the records of this worker. Records of other workers may have been stored before it.
    Stored,
    /// No receipt has come. It may still be stored, behind any other record.
    Unknown,
}

/// An entry that left the window.
#[derive(Debug)]
pub struct Settled {
    /// Acknowledgement that the device gets.
    pub acknowledgement: Acknowledgement,
    /// Time at which the packet arrived from the device, us of the worker's clock.
    pub taken_us: u64,
    /// Memory that the entry counted for in [`Load::held_bytes`](crate::protocol::limit::Load::held_bytes).
    pub held_bytes: usize,
    /// Fate of presence that was not acknowledged when its session ended; `None` for all other entries.
    pub late: Option<LatePresence>,
    /// Duration from the handover of the stored copy to its receipt, us; `None` for a packet without a record.
    pub queue_us: Option<u64>,
    /// Span of the packet; `None` when its trace is not sampled.
    pub span: Option<Box<Span>>,
}

#[derive(Debug)]
struct Entry {
    record: Option<Record>,
    span: Option<Box<Span>>,
    acknowledgement: Acknowledgement,
    taken_us: u64,
    /// Before `done`: time of the last handover, us. After: see [`Settled::queue_us`].
    queue_us: u64,
    /// Whether the entry waits for no receipt, and leaves once it is at the front.
    done: bool,
    /// Whether the queue took a copy, be it one of an earlier sending.
    was_taken: bool,
    /// Whether the entry is presence that is not sent again.
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

/// The window of one session; the module describes its use.
#[derive(Debug)]
pub struct Window {
    slot: SlotId,
    /// Sequence number of the front entry.
    base: u16,
    /// Number of entries that were handed over, counted from the front.
    sent: usize,
    stalled: bool,
    /// Largest number of entries since the window was last empty.
    peak: u16,
    /// Capacity of the next buffer: the last `peak` before the window was empty, at most [`INITIAL_CAPACITY_MAX`].
    next_capacity: u16,
    entries: VecDeque<Entry>,
}

impl Window {
    /// An empty window of the session in that slot.
    pub fn new(slot: SlotId) -> Self {
        Self { slot, base: 0, sent: 0, stalled: false, peak: 0, next_capacity: 0, entries: VecDeque::new() }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the window is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether it has a buffer.
    #[cfg(test)]
    pub fn has_buffer(&self) -> bool {
        self.entries.capacity() > 0
    }

    /// Time at which the oldest entry arrived from the device, us of the worker's clock.
    pub fn oldest_us(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.taken_us)
    }

    /// Whether records wait for [`Window::resend`].
    pub fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Takes a spare buffer for the record that [`Window::push`] is about to add, if the window has no buffer and last held
    /// one entry at a time.
    pub fn take_buffer(&mut self, spare: &mut SpareBuffers) {
        if self.entries.capacity() == 0 && self.next_capacity == 1 {
            self.entries = spare.take();
        }
    }

    /// Gives the buffer of an empty window back: an idle connection holds none. The next buffer gets the capacity that this
    /// one has used.
    pub fn give_buffer_back(&mut self, spare: &mut SpareBuffers) {
        if self.entries.capacity() == 0 || !self.entries.is_empty() {
            return;
        }
        let buffer = std::mem::take(&mut self.entries);
        self.next_capacity = std::mem::take(&mut self.peak).min(INITIAL_CAPACITY_MAX);
        spare.give(buffer);
    }

    /// Adds a record that arrived at `taken_us` and hands it over. An entry without a record is for a packet that only
    /// needs its acknowledgement, in order.
    pub fn push(
        &mut self,
        record: Option<Record>,
        span: Option<Box<Span>>,
        acknowledgement: Acknowledgement,
        taken_us: u64,
        uplink: &mut dyn Uplink,
    ) {
        let done = record.is_none();
        if self.entries.capacity() == 0 {
            self.entries.reserve_exact(usize::from(self.next_capacity));
        }
        self.entries.push_back(Entry {
            record,
            span,
            acknowledgement,
            taken_us,
            queue_us: taken_us,
            done,
            was_taken: false,
            withdrawn: false,
            late: None,
        });
        self.peak = self.peak.max(u16::try_from(self.entries.len()).unwrap_or(u16::MAX));
        self.hand_over(taken_us, uplink);
    }

    /// Applies a receipt that came at `now_us`. A receipt of an earlier copy, or of an entry that has left, is ignored.
    pub fn settle(&mut self, sequence: u16, stored: bool, now_us: u64) {
        match self.index(sequence).and_then(|index| self.entries.get_mut(index)) {
            Some(entry) if !entry.done && stored => {
                entry.done = true;
                entry.queue_us = now_us.saturating_sub(entry.queue_us);
            }
            // Not stored and not sent again: it cannot be late.
            Some(entry) if entry.withdrawn && !entry.done => (entry.done, entry.late) = (true, None),
            Some(entry) if !entry.done => self.stalled = true,
            _ => {}
        }
    }

    /// The record that the queue has refused for good, by its sequence number; `None` for an earlier copy, and for an entry
    /// that has left.
    pub fn refused(&self, sequence: u16) -> Option<&Record> {
        let entry = self.entries.get(self.index(sequence)?)?;
        entry.record.as_ref().filter(|_| !entry.done && !entry.withdrawn)
    }

    /// Replaces the record with that sequence number by `record`, and hands `record` over. It has the same sequence number:
    /// the refused copy gets no second receipt. A stalled window hands `record` over at the next [`Window::resend`].
    pub fn replace(&mut self, sequence: u16, record: Record, now_us: u64, uplink: &mut dyn Uplink) {
        let Some(index) = self.index(sequence) else { return };
        let delivery_id = self.delivery_id(index);
        let Some(entry) = self.entries.get_mut(index) else { return };
        let record = entry.record.insert(record);
        entry.queue_us = now_us;
        if !self.stalled && uplink.publish(delivery_id, record) == Handover::NotTaken {
            self.stalled = true;
        }
    }

    /// Withdraws presence that has not left the window. Presence that was never handed over is done. Presence that was handed
    /// over may still be stored: it is done when its receipt comes, or when receipts of its copies do not count any more.
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
                entry.done |= !has_receipt;
            }
        }
    }

    /// Marks presence that has not left the window as late. It is sent again like every other record.
    pub fn keep_presence(&mut self) {
        let presence = self.entries.iter_mut().filter(|entry| entry.acknowledgement == Acknowledgement::Presence);
        presence.for_each(|entry| entry.late = Some(LatePresence::Stored));
    }

    /// The front entry that [`Window::pop`] would remove, if a record of it is stored: the record, its acknowledgement,
    /// when its packet arrived, and [`Settled::queue_us`].
    pub fn front_stored(&self) -> Option<(&Record, Acknowledgement, u64, u64)> {
        let entry = self.entries.front().filter(|entry| entry.done && !entry.withdrawn)?;
        Some((entry.record.as_ref()?, entry.acknowledgement, entry.taken_us, entry.queue_us))
    }

    /// Removes the front entry if it waits for no receipt.
    pub fn pop(&mut self) -> Option<Settled> {
        let mut entry = self.entries.pop_front_if(|entry| entry.done)?;
        self.base = self.base.wrapping_add(1);
        self.sent = self.sent.saturating_sub(1);
        Some(entry.settled())
    }

    /// Hands all records that are left over again, at `now_us`. Withdrawn presence is not sent again. Its fate stays
    /// unknown, as its earlier copy may still be stored.
    pub fn resend(&mut self, now_us: u64, uplink: &mut dyn Uplink) {
        self.forget_copies();
        self.stalled = false;
        for entry in &mut self.entries {
            if entry.withdrawn && !entry.done {
                entry.late = Some(LatePresence::Unknown);
            }
            entry.done = entry.record.is_none() || entry.withdrawn;
        }
        self.hand_over(now_us, uplink);
    }

    /// Drops every record of the device, in order and without an acknowledgement, and passes it to `gone`. Presence stays: it
    /// is sent again unless it is withdrawn, and counts as if it had arrived at `now_us`.
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

    /// Skips the sequence numbers in use, so that receipts of earlier copies do not count.
    fn forget_copies(&mut self) {
        self.base = self.base.wrapping_add(u16::try_from(self.entries.len()).unwrap_or(u16::MAX));
        self.sent = 0;
    }

    /// Index of the entry whose last copy has that sequence number.
    fn index(&self, sequence: u16) -> Option<usize> {
        let index = usize::from(sequence.wrapping_sub(self.base));
        (index < self.sent).then_some(index)
    }

    fn delivery_id(&self, index: usize) -> DeliveryId {
        #[expect(clippy::cast_possible_truncation, reason = "sequence numbers are modulo 2^16")]
        let sequence = self.base.wrapping_add(index as u16);
        DeliveryId { slot: self.slot, sequence }
    }

    fn hand_over(&mut self, now_us: u64, uplink: &mut dyn Uplink) {
        while !self.stalled {
            let delivery_id = self.delivery_id(self.sent);
            let Some(entry) = self.entries.get_mut(self.sent) else { return };
            entry.queue_us = now_us;
            let record = entry.record.as_ref().filter(|_| !entry.withdrawn);
            match record.map(|record| uplink.publish(delivery_id, record)) {
                None => self.sent += 1,
                Some(Handover::Taken) => (self.sent, entry.was_taken) = (self.sent + 1, true),
                Some(Handover::NotTaken) => self.stalled = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::fake::FakeUplink;
    use crate::session::mqtt::fake::record;

    const SLOT: SlotId = SlotId { index: 3, generation: 4 };

    fn id(number: u16) -> PacketId {
        PacketId::new(number).expect("tests use ids above 0")
    }

    fn popped(window: &mut Window) -> Vec<Acknowledgement> {
        std::iter::from_fn(|| window.pop()).map(|settled| settled.acknowledgement).collect()
    }

    fn filled(uplink: &mut FakeUplink, count: u16) -> Window {
        let mut window = Window::new(SLOT);
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
            window.give_buffer_back(&mut SpareBuffers::default());
            assert_eq!(window.entries.capacity(), 0);
            for _ in 0..3 {
                window.push(Some(record("")), None, Acknowledgement::None, 9, &mut uplink);
            }
            assert_eq!(window.entries.capacity(), next);
        }
    }

    #[test]
    fn the_buffer_of_one_entry_serves_the_next_window_and_a_larger_one_is_freed() {
        let mut uplink = FakeUplink::default();
        let mut spare = SpareBuffers::default();
        let mut fill_and_empty = |window: &mut Window, count: u16| {
            let first = window.base;
            (0..count).for_each(|_| window.push(Some(record("")), None, Acknowledgement::None, 9, &mut uplink));
            window.give_buffer_back(&mut SpareBuffers::default());
            assert_eq!(window.len(), usize::from(count), "a window in use gave its buffer away");
            (first..first + count).for_each(|sequence| window.settle(sequence, true, 9));
            popped(window);
        };
        let mut windows = [1, 1, 2].map(|count| {
            let mut window = Window::new(SLOT);
            // How much its first buffer holds is left to the standard library.
            fill_and_empty(&mut window, count);
            window.give_buffer_back(&mut SpareBuffers::default());
            fill_and_empty(&mut window, count);
            window
        });
        windows.iter_mut().for_each(|window| window.give_buffer_back(&mut spare));
        assert_eq!(spare.count(), 2);
        assert!(windows.iter().all(|window| window.entries.capacity() == 0));
        windows.iter_mut().for_each(|window| window.take_buffer(&mut spare));
        assert_eq!(windows.map(|window| window.entries.capacity()), [1, 1, 0]);
        assert_eq!(spare.count(), 0);
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
        let mut window = Window::new(SLOT);
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
        let mut window = Window::new(SLOT);
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
            let mut window = Window::new(SLOT);
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
        let mut window = Window::new(SLOT);
        window.push(Some(record("online")), None, Acknowledgement::Presence, 1, &mut uplink);
        uplink.refuses = true;
        window.push(Some(record("1")), None, Acknowledgement::None, 2, &mut uplink);
        window.resend(3, &mut uplink);
        window.withdraw_presence();
        assert_eq!(window.pop().and_then(|settled| settled.late), Some(LatePresence::Unknown));
    }
}
