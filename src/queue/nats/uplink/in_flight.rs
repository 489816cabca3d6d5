//! Records on their way to the stream, in the order of their sending.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::protocol::uplink::DeliveryId;

/// Records that may be on their way: as many as a number in a reply subject tells apart. One costs some 60 bytes here,
/// 60 MiB in all at worst.
pub(super) const IN_FLIGHT_MAX: usize = 1 << 20;

/// Two answers to one record come within this time.
const CONTRADICTION: Duration = Duration::from_secs(10);

/// Refusals that are remembered.
const REFUSED_MAX: usize = 64;

/// Time without an acknowledgement, while records are outstanding, after which the queue counts as away.
pub(super) const STALL: Duration = Duration::from_secs(5);

/// Records sent within this time are counted together.
const SECOND: Duration = Duration::from_secs(1);

/// Seconds that are told apart: far more than a connection's deadline.
const SECONDS: usize = 32;

/// The state of a record that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AckState {
    /// Nobody has answered.
    Open,
    /// The stream has refused it, or failed to take it.
    Failed,
    /// The stream has it.
    Stored,
}

/// One sending of a record.
#[derive(Debug)]
struct Sending {
    /// The record.
    id: DeliveryId,
    /// When it was sent, as [`Outstanding`] counts.
    second: u8,
    state: AckState,
    subject: Bytes,
    bytes: usize,
}

/// Every sending since the uplink was opened up to the oldest that nobody has answered.
#[derive(Debug)]
pub(super) struct InFlight {
    /// Number of the first.
    base: usize,
    /// Sendings since the connection was lost last.
    on_connection: usize,
    sendings: VecDeque<Sending>,
    outstanding: Outstanding,
    /// The latest that were refused, number of the sending and id of the delivery, for [`InFlight::was_refused`].
    refused: VecDeque<(usize, DeliveryId)>,
    /// When the last of them was.
    refused_at: Option<Instant>,
}

impl InFlight {
    /// Nothing on its way.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            base: 0,
            on_connection: 0,
            sendings: VecDeque::new(),
            outstanding: Outstanding::new(now),
            refused: VecDeque::new(),
            refused_at: None,
        }
    }

    /// Forgets everything: answers to what was sent so far find nothing.
    pub(super) fn restart(&mut self, now: Instant) {
        self.outstanding.restart(now);
        self.base = self.next();
        // Not `clear`, which would keep the memory of the longest line there ever was.
        self.sendings = VecDeque::new();
    }

    /// Forgets everything and that it was sent: the connection is lost. See [`InFlight::is_of_connection`].
    pub(super) fn disconnect(&mut self, now: Instant) {
        self.restart(now);
        self.on_connection = 0;
    }

    /// Whether the sending of that number went over the present connection. An answer to an earlier one may come from a server
    /// that hung, and be about a record that it stored behind later ones of its session.
    pub(super) fn is_of_connection(&self, number: usize) -> bool {
        let behind = (self.next() + IN_FLIGHT_MAX - number % IN_FLIGHT_MAX - 1) % IN_FLIGHT_MAX;
        behind < self.on_connection
    }

    /// Notes a sending; its number, below [`IN_FLIGHT_MAX`]. `None` when too many are on their way.
    pub(super) fn send(&mut self, id: DeliveryId, subject: &Bytes, bytes: usize) -> Option<usize> {
        if self.sendings.len() >= IN_FLIGHT_MAX {
            return None;
        }
        let number = self.next();
        self.on_connection = self.on_connection.saturating_add(1);
        let second = self.outstanding.send();
        self.sendings.push_back(Sending { id, second, state: AckState::Open, subject: subject.clone(), bytes });
        Some(number)
    }

    /// The state of the sending of that number, if it is of this delivery: `None` for one from before the restart, or long ago.
    pub(super) fn state(&self, number: usize, id: DeliveryId) -> Option<AckState> {
        let sending = self.sendings.get(self.place(number))?;
        (sending.id == id).then_some(sending.state)
    }

    /// Notes the answer to a sending, or that it did not take place. Forgets what was answered, as far as nothing older is
    /// open.
    pub(super) fn settle(&mut self, number: usize, id: DeliveryId, state: AckState) {
        let place = self.place(number);
        let Some(sending) = self.sendings.get_mut(place).filter(|sending| sending.id == id) else { return };
        if std::mem::replace(&mut sending.state, state) == AckState::Open {
            self.outstanding.acknowledge(sending.second);
        }
        self.trim();
    }

    /// Fails everything open on that subject; the records.
    pub(super) fn fail(&mut self, subject: &str) -> Vec<DeliveryId> {
        let Self { sendings, outstanding, .. } = self;
        let concerned = |sending: &&mut Sending| sending.state == AckState::Open && sending.subject == subject;
        let fail = |sending: &mut Sending| {
            sending.state = AckState::Failed;
            outstanding.acknowledge(sending.second);
            sending.id
        };
        let failed = sendings.iter_mut().filter(concerned).map(fail).collect();
        self.trim();
        failed
    }

    /// Ends a batch of answers.
    pub(super) fn note_progress(&mut self, now: Instant) {
        self.outstanding.note_progress(now);
    }

    /// Looks whether something is lost; at least twice a second.
    pub(super) fn look(&mut self, now: Instant) -> Option<Loss> {
        self.outstanding.look(now)
    }

    /// Remembers a refusal: whether the stream stores that record after all tells whose refusal it was.
    pub(super) fn note_refusal(&mut self, number: usize, id: DeliveryId, now: Instant) {
        self.refused_at = Some(now);
        if self.refused.len() == REFUSED_MAX {
            self.refused.pop_front();
        }
        self.refused.push_back((number, id));
    }

    /// Forgets refusals that nobody contradicts any more; at least every few seconds.
    pub(super) fn forget_refusals(&mut self, now: Instant) {
        if self.refused_at.is_some_and(|last| now.saturating_duration_since(last) >= CONTRADICTION) {
            (self.refused, self.refused_at) = (VecDeque::new(), None);
        }
    }

    /// Whether that sending was refused lately, also before the restart.
    pub(super) fn was_refused(&self, number: usize, id: DeliveryId) -> bool {
        self.refused.contains(&(number, id))
    }

    /// Size of the largest that is open, in bytes.
    pub(super) fn largest(&self) -> Option<usize> {
        self.sendings.iter().filter(|sending| sending.state == AckState::Open).map(|sending| sending.bytes).max()
    }

    fn trim(&mut self) {
        while self.sendings.pop_front_if(|sending| sending.state != AckState::Open).is_some() {
            self.base = (self.base + 1) % IN_FLIGHT_MAX;
        }
    }

    fn place(&self, number: usize) -> usize {
        number.wrapping_sub(self.base) % IN_FLIGHT_MAX
    }

    fn next(&self) -> usize {
        (self.base + self.sendings.len()) % IN_FLIGHT_MAX
    }
}

/// Counts records by the second of their sending.
///
/// A stream acknowledges in the order in which it was sent to, so a record that is still outstanding when one of two
/// seconds later is acknowledged was lost, as happens when a stream changes its leader. A slow stream, in contrast, is late
/// with all of them.
#[derive(Debug)]
struct Outstanding {
    counts: [u32; SECONDS],
    /// First second since the queue was opened; earlier ones do not count.
    first: u64,
    current: u64,
    started: Instant,
    /// Latest second of which something was acknowledged.
    acknowledged: u64,
    progress: Instant,
}

/// Why records are taken for lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// Nothing is acknowledged any more.
    Stalled,
    /// Later records were acknowledged, earlier ones were not.
    Skipped,
}

impl Outstanding {
    fn new(now: Instant) -> Self {
        Self { counts: [0; SECONDS], first: 0, current: 0, started: now, acknowledged: 0, progress: now }
    }

    /// Forgets everything: what was sent so far does not count any more.
    fn restart(&mut self, now: Instant) {
        let next = self.current + 1;
        *self = Self { first: next, current: next, acknowledged: next, ..Self::new(now) };
    }

    /// Counts one that is being sent; what is returned, below [`SECONDS`], must come back with its acknowledgement.
    fn send(&mut self) -> u8 {
        self.counts[index(self.current)] += 1;
        // Below 32.
        index(self.current) as u8
    }

    /// Counts one acknowledgement, positive or negative; false when its record was sent before the last restart.
    fn acknowledge(&mut self, second: u8) -> bool {
        let behind = index(self.current).wrapping_sub(usize::from(second)) % SECONDS;
        let Some(second) = self.current.checked_sub(behind as u64).filter(|second| *second >= self.first) else {
            return false;
        };
        let count = &mut self.counts[index(second)];
        *count = count.saturating_sub(1);
        self.acknowledged = self.acknowledged.max(second);
        true
    }

    /// Ends a batch of acknowledgements.
    fn note_progress(&mut self, now: Instant) {
        self.progress = now;
    }

    /// Looks whether something is lost; at least twice a second.
    fn look(&mut self, now: Instant) -> Option<Loss> {
        if self.counts.iter().all(|count| *count == 0) {
            self.progress = now;
        }
        if now.saturating_duration_since(self.progress) >= STALL {
            return Some(Loss::Stalled);
        }
        let horizon = self.acknowledged.saturating_sub(1);
        let oldest = self.first.max((self.current + 1).saturating_sub(SECONDS as u64));
        if (oldest..horizon).any(|second| self.counts[index(second)] > 0) {
            return Some(Loss::Skipped);
        }
        if now.saturating_duration_since(self.started) >= SECOND {
            self.current += 1;
            self.started = now;
            self.counts[index(self.current)] = 0;
        }
        None
    }
}

fn index(second: u64) -> usize {
    // Below 32 on every machine.
    (second % SECONDS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::uplink::SlotId;

    fn id(sequence: u16) -> DeliveryId {
        DeliveryId { slot: SlotId { index: 1, generation: 2 }, sequence }
    }

    fn filled(base: usize, subjects: &[&'static str]) -> (InFlight, Vec<usize>) {
        let mut in_flight = InFlight { base, ..InFlight::new(Instant::now()) };
        let send = |(sequence, subject): (u16, &&'static str)| {
            in_flight.send(id(sequence), &Bytes::from_static(subject.as_bytes()), 100 + usize::from(sequence))
        };
        let numbers = (0..).zip(subjects).filter_map(send).collect();
        (in_flight, numbers)
    }

    #[test]
    fn each_sending_is_found_by_its_number_also_where_numbers_begin_anew() {
        let (in_flight, numbers) = filled(IN_FLIGHT_MAX - 2, &["a", "b", "c", "d"]);
        assert_eq!(numbers, [IN_FLIGHT_MAX - 2, IN_FLIGHT_MAX - 1, 0, 1]);
        for (sequence, number) in (0..).zip(&numbers) {
            assert_eq!(in_flight.state(*number, id(sequence)), Some(AckState::Open));
            assert_eq!(in_flight.state(*number, id(9)), None, "somebody else's");
        }
        assert_eq!(in_flight.state(2, id(4)), None);
    }

    #[test]
    fn what_is_answered_leaves_in_the_order_of_sending_and_nothing_is_found_after_a_restart() {
        let (mut in_flight, numbers) = filled(0, &["a", "b", "c"]);
        let stored = |in_flight: &mut InFlight, place: u16| {
            in_flight.settle(numbers[usize::from(place)], id(place), AckState::Stored);
            in_flight.sendings.len()
        };
        assert_eq!(stored(&mut in_flight, 1), 3);
        assert_eq!(stored(&mut in_flight, 0), 1);
        assert_eq!(in_flight.state(numbers[1], id(1)), None);
        in_flight.restart(Instant::now());
        assert_eq!(in_flight.state(numbers[2], id(2)), None);
        assert_eq!(in_flight.send(id(5), &Bytes::from_static(b"a"), 1), Some(3));
    }

    #[test]
    fn sendings_of_a_connection_that_was_lost_are_told_from_those_of_the_present_one() {
        let (mut in_flight, before) = filled(IN_FLIGHT_MAX - 2, &["a", "b", "c"]);
        in_flight.restart(Instant::now());
        assert!(before.iter().all(|number| in_flight.is_of_connection(*number)), "the connection is the same");
        in_flight.disconnect(Instant::now());
        let after = in_flight.send(id(9), &Bytes::from_static(b"a"), 1).expect("there is room");
        in_flight.restart(Instant::now());
        assert!(in_flight.is_of_connection(after));
        assert!(!before.iter().any(|number| in_flight.is_of_connection(*number)));
    }

    #[test]
    fn a_subject_fails_with_everything_that_is_open_on_it_and_nothing_else() {
        let (mut in_flight, numbers) = filled(7, &["a", "b", "a", "a"]);
        in_flight.settle(numbers[2], id(2), AckState::Stored);
        assert_eq!(in_flight.largest(), Some(103));
        assert_eq!(in_flight.fail("a"), [id(0), id(3)]);
        assert_eq!(in_flight.fail("a"), []);
        assert_eq!(in_flight.largest(), Some(101));
        assert_eq!(in_flight.sendings.len(), 3, "the one that is open keeps those behind it");
    }

    #[test]
    fn refusals_are_known_over_a_restart_and_for_a_while() {
        let (mut in_flight, numbers) = filled(0, &["a"]);
        let now = Instant::now();
        in_flight.note_refusal(numbers[0], id(0), now);
        in_flight.restart(Instant::now());
        in_flight.forget_refusals(now + CONTRADICTION / 2);
        assert!(in_flight.was_refused(numbers[0], id(0)) && !in_flight.was_refused(numbers[0], id(1)));
        in_flight.forget_refusals(now + CONTRADICTION);
        assert!(!in_flight.was_refused(numbers[0], id(0)));
        (0..100).for_each(|number| in_flight.note_refusal(number, id(0), now));
        assert_eq!(in_flight.refused.len(), REFUSED_MAX);
    }

    /// Looks every half second until something is lost or the time is over.
    fn look_for(outstanding: &mut Outstanding, start: Instant, halves: std::ops::Range<u64>) -> Option<(u64, Loss)> {
        halves.into_iter().find_map(|half| {
            let loss = outstanding.look(start + Duration::from_millis(500 * half))?;
            Some((half, loss))
        })
    }

    #[test]
    fn nothing_is_lost_while_nothing_waits() {
        let start = Instant::now();
        let mut outstanding = Outstanding::new(start);
        assert_eq!(look_for(&mut outstanding, start, 0..1000), None);
        let second = outstanding.send();
        assert!(outstanding.acknowledge(second));
        assert_eq!(look_for(&mut outstanding, start, 1000..2000), None);
    }

    #[test]
    fn a_stream_that_falls_silent_is_stalled_after_five_seconds() {
        let start = Instant::now();
        let mut outstanding = Outstanding::new(start);
        outstanding.send();
        assert_eq!(look_for(&mut outstanding, start, 0..100), Some((10, Loss::Stalled)));
        outstanding.restart(start);
        assert_eq!(look_for(&mut outstanding, start, 0..100), None);
    }

    #[test]
    fn a_record_is_lost_when_one_of_two_seconds_later_is_acknowledged() {
        let start = Instant::now();
        let mut outstanding = Outstanding::new(start);
        outstanding.send();
        for half in 1..100 {
            let now = start + Duration::from_millis(500 * half);
            let second = outstanding.send();
            assert!(outstanding.acknowledge(second));
            outstanding.note_progress(now);
            if let Some(loss) = outstanding.look(now) {
                assert_eq!((half, loss), (5, Loss::Skipped));
                return;
            }
        }
        panic!("the loss was not seen");
    }

    #[test]
    fn a_stream_that_is_late_with_everything_loses_nothing() {
        let start = Instant::now();
        let mut outstanding = Outstanding::new(start);
        let mut under_way = std::collections::VecDeque::new();
        for half in 1..200 {
            let now = start + Duration::from_millis(500 * half);
            under_way.push_back(outstanding.send());
            if under_way.len() > 16 {
                assert!(under_way.pop_front().is_some_and(|second| outstanding.acknowledge(second)));
                outstanding.note_progress(now);
            } else {
                outstanding.note_progress(now);
            }
            assert_eq!(outstanding.look(now), None, "{half}");
        }
    }

    #[test]
    fn acknowledgements_of_before_a_restart_do_not_count() {
        let start = Instant::now();
        let mut outstanding = Outstanding::new(start);
        let early = outstanding.send();
        outstanding.restart(start);
        assert!(!outstanding.acknowledge(early));
        let late = outstanding.send();
        assert!(outstanding.acknowledge(late));
    }
}
