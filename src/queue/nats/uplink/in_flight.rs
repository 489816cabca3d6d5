//! Records on their way to the stream, in the order of their sending.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use async_nats::Subject;

use crate::protocol::uplink::DeliveryId;

/// Records that may be on their way: as many as a number in a reply subject tells apart. One costs some 60 bytes here,
/// 60 MiB in all at worst.
pub(super) const IN_FLIGHT_MAX: usize = 1 << 20;

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
pub(super) struct Sending {
    /// The record.
    pub(super) token: DeliveryId,
    /// When it was sent, as [`Outstanding`](super::outstanding::Outstanding) counts.
    pub(super) second: u8,
    pub(super) state: AckState,
    subject: Subject,
    bytes: usize,
}

/// Every sending since the uplink was opened up to the oldest that nobody has answered.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// Number of the first.
    base: usize,
    /// Sendings since the connection was lost last.
    on_connection: usize,
    sendings: VecDeque<Sending>,
    /// The latest that were refused, number and token, for [`InFlight::was_refused`].
    refused: VecDeque<(usize, DeliveryId)>,
    /// When the last of them was.
    refused_at: Option<Instant>,
}

/// Two answers to one record come within this time.
const CONTRADICTION: Duration = Duration::from_secs(10);

/// Refusals that are remembered.
const REFUSED_MAX: usize = 64;

impl InFlight {
    /// Forgets everything: answers to what was sent so far find nothing.
    pub(super) fn restart(&mut self) {
        self.base = self.next();
        // Not `clear`, which would keep the memory of the longest line there ever was.
        self.sendings = VecDeque::new();
    }

    /// Forgets everything and that it was sent: the connection is lost. See [`InFlight::is_of_connection`].
    pub(super) fn disconnect(&mut self) {
        self.restart();
        self.on_connection = 0;
    }

    /// Whether the sending of that number went over the present connection. An answer to an earlier one may come from a server
    /// that hung, and be about a record that it stored behind later ones of its session.
    pub(super) fn is_of_connection(&self, number: usize) -> bool {
        let behind = (self.next() + IN_FLIGHT_MAX - number % IN_FLIGHT_MAX - 1) % IN_FLIGHT_MAX;
        behind < self.on_connection
    }

    /// Notes a sending; its number, below [`IN_FLIGHT_MAX`]. `None` when too many are on their way.
    pub(super) fn send(&mut self, token: DeliveryId, second: u8, subject: &Subject, bytes: usize) -> Option<usize> {
        if self.sendings.len() >= IN_FLIGHT_MAX {
            return None;
        }
        let number = self.next();
        self.on_connection = self.on_connection.saturating_add(1);
        self.sendings.push_back(Sending { token, second, state: AckState::Open, subject: subject.clone(), bytes });
        Some(number)
    }

    /// The sending of that number, if it is this token's: `None` for one from before the restart, or long ago.
    pub(super) fn get_mut(&mut self, number: usize, token: DeliveryId) -> Option<&mut Sending> {
        let place = number.wrapping_sub(self.base) % IN_FLIGHT_MAX;
        self.sendings.get_mut(place).filter(|sending| sending.token == token)
    }

    /// Forgets what was answered, as far as nothing older is open.
    pub(super) fn trim(&mut self) {
        while self.sendings.pop_front_if(|sending| sending.state != AckState::Open).is_some() {
            self.base = (self.base + 1) % IN_FLIGHT_MAX;
        }
    }

    /// Forgets a sending that did not take place.
    pub(super) fn give_up(&mut self, number: usize, token: DeliveryId) {
        if let Some(sending) = self.get_mut(number, token) {
            sending.state = AckState::Failed;
        }
        self.trim();
    }

    /// Fails everything open on that subject: the token and the second of each.
    pub(super) fn fail(&mut self, subject: &str) -> Vec<(DeliveryId, u8)> {
        let concerned = |sending: &&mut Sending| sending.state == AckState::Open && sending.subject.as_str() == subject;
        let failed: Vec<(DeliveryId, u8)> = self
            .sendings
            .iter_mut()
            .filter(concerned)
            .map(|sending| {
                sending.state = AckState::Failed;
                (sending.token, sending.second)
            })
            .collect();
        self.trim();
        failed
    }

    /// Remembers a refusal: whether the stream stores that record after all tells whose refusal it was.
    pub(super) fn note_refusal(&mut self, number: usize, token: DeliveryId, now: Instant) {
        self.refused_at = Some(now);
        if self.refused.len() == REFUSED_MAX {
            self.refused.pop_front();
        }
        self.refused.push_back((number, token));
    }

    /// Forgets refusals that nobody contradicts any more; at least every few seconds.
    pub(super) fn forget_refusals(&mut self, now: Instant) {
        if self.refused_at.is_some_and(|last| now.saturating_duration_since(last) >= CONTRADICTION) {
            (self.refused, self.refused_at) = (VecDeque::new(), None);
        }
    }

    /// Whether that sending was refused lately, also before the restart.
    pub(super) fn was_refused(&self, number: usize, token: DeliveryId) -> bool {
        self.refused.contains(&(number, token))
    }

    /// Size of the largest that is open, in bytes.
    pub(super) fn largest(&self) -> Option<usize> {
        self.sendings.iter().filter(|sending| sending.state == AckState::Open).map(|sending| sending.bytes).max()
    }

    fn next(&self) -> usize {
        (self.base + self.sendings.len()) % IN_FLIGHT_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(sequence: u16) -> DeliveryId {
        DeliveryId { slot: 1, generation: 2, sequence }
    }

    fn filled(base: usize, subjects: &[&'static str]) -> (InFlight, Vec<usize>) {
        let mut in_flight = InFlight { base, ..InFlight::default() };
        let send = |(sequence, subject): (u16, &&'static str)| {
            in_flight.send(token(sequence), 3, &Subject::from_static(subject), 100 + usize::from(sequence))
        };
        let numbers = (0..).zip(subjects).filter_map(send).collect();
        (in_flight, numbers)
    }

    #[test]
    fn each_sending_is_found_by_its_number_also_where_numbers_begin_anew() {
        let (mut in_flight, numbers) = filled(IN_FLIGHT_MAX - 2, &["a", "b", "c", "d"]);
        assert_eq!(numbers, [IN_FLIGHT_MAX - 2, IN_FLIGHT_MAX - 1, 0, 1]);
        for (sequence, number) in (0..).zip(&numbers) {
            assert_eq!(in_flight.get_mut(*number, token(sequence)).map(|sending| sending.second), Some(3));
            assert!(in_flight.get_mut(*number, token(9)).is_none(), "somebody else's");
        }
        assert!(in_flight.get_mut(2, token(4)).is_none());
    }

    #[test]
    fn what_is_answered_leaves_in_the_order_of_sending_and_nothing_is_found_after_a_restart() {
        let (mut in_flight, numbers) = filled(0, &["a", "b", "c"]);
        let stored = |in_flight: &mut InFlight, place: u16| {
            let sending = in_flight.get_mut(numbers[usize::from(place)], token(place)).expect("it is on its way");
            sending.state = AckState::Stored;
            in_flight.trim();
            in_flight.sendings.len()
        };
        assert_eq!(stored(&mut in_flight, 1), 3);
        assert_eq!(stored(&mut in_flight, 0), 1);
        assert!(in_flight.get_mut(numbers[1], token(1)).is_none());
        in_flight.restart();
        assert!(in_flight.get_mut(numbers[2], token(2)).is_none());
        assert_eq!(in_flight.send(token(5), 0, &Subject::from_static("a"), 1), Some(3));
    }

    #[test]
    fn sendings_of_a_connection_that_was_lost_are_told_from_those_of_the_present_one() {
        let (mut in_flight, before) = filled(IN_FLIGHT_MAX - 2, &["a", "b", "c"]);
        in_flight.restart();
        assert!(before.iter().all(|number| in_flight.is_of_connection(*number)), "the connection is the same");
        in_flight.disconnect();
        let after = in_flight.send(token(9), 3, &Subject::from_static("a"), 1).expect("there is room");
        in_flight.restart();
        assert!(in_flight.is_of_connection(after));
        assert!(!before.iter().any(|number| in_flight.is_of_connection(*number)));
    }

    #[test]
    fn a_subject_fails_with_everything_that_is_open_on_it_and_nothing_else() {
        let (mut in_flight, numbers) = filled(7, &["a", "b", "a", "a"]);
        in_flight.get_mut(numbers[2], token(2)).expect("it is on its way").state = AckState::Stored;
        assert_eq!(in_flight.largest(), Some(103));
        assert_eq!(in_flight.fail("a"), [(token(0), 3), (token(3), 3)]);
        assert_eq!(in_flight.fail("a"), []);
        assert_eq!(in_flight.largest(), Some(101));
        assert_eq!(in_flight.sendings.len(), 3, "the one that is open keeps those behind it");
    }

    #[test]
    fn refusals_are_known_over_a_restart_and_for_a_while() {
        let (mut in_flight, numbers) = filled(0, &["a"]);
        let now = Instant::now();
        in_flight.note_refusal(numbers[0], token(0), now);
        in_flight.restart();
        in_flight.forget_refusals(now + CONTRADICTION / 2);
        assert!(in_flight.was_refused(numbers[0], token(0)) && !in_flight.was_refused(numbers[0], token(1)));
        in_flight.forget_refusals(now + CONTRADICTION);
        assert!(!in_flight.was_refused(numbers[0], token(0)));
        (0..100).for_each(|number| in_flight.note_refusal(number, token(0), now));
        assert_eq!(in_flight.refused.len(), REFUSED_MAX);
    }
}
