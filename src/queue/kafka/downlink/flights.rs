//! Commands under way, from their record to the acknowledgement of their outcome.

use std::collections::BTreeSet;

use slab::Slab;
use tokio::time::Instant;

use super::outgoing::Outgoing;
use super::partitions::Origin;
use crate::protocol::command::CommandIdentity;
use crate::protocol::trace::Span;

/// Stamps have 31 bits: the highest bit of a number is the queue's mark on its tickets.
const STAMP_MAX: u32 = u32::MAX >> 1;

/// One command under way.
#[derive(Debug)]
pub(super) struct Flight {
    /// Where it came from.
    pub(super) origin: Origin,
    /// What its outcome is about; `None` for what could not be read.
    pub(super) identity: Option<Box<CommandIdentity>>,
    /// How far it is.
    pub(super) stage: Stage,
    /// What it counts towards the bound on bytes: its record, later its outcome.
    pub(super) bytes: usize,
    /// When its waiting ends, if this side has to end it.
    pub(super) deadline: Option<Instant>,
    /// The span of a command that was handed over, where its trace is sampled, and when it began.
    pub(super) span: Option<(Box<Span>, Instant)>,
}

/// How far a command is.
#[derive(Debug)]
pub(super) enum Stage {
    /// A worker or another replica has it.
    Waiting,
    /// Its outcome is with the producer, or waits to be sent again.
    Answering(Outgoing),
}

/// All commands under way. Each has a number that is never used again while somebody may still know it.
#[derive(Debug, Default)]
pub(super) struct Flights {
    flights: Slab<(u32, Flight)>,
    next_stamp: u32,
    bytes: usize,
    deadlines: BTreeSet<(Instant, u64)>,
}

impl Flights {
    /// Adds one; its number.
    pub(super) fn insert(&mut self, flight: Flight) -> u64 {
        let stamp = self.next_stamp;
        self.next_stamp = (stamp + 1) & STAMP_MAX;
        self.bytes += flight.bytes;
        let deadline = flight.deadline;
        let place = self.flights.insert((stamp, flight));
        let number = number(stamp, place);
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, number));
        }
        number
    }

    /// One of them.
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Flight> {
        let place = usize::try_from(number & u64::from(u32::MAX)).ok()?;
        let (stamp, flight) = self.flights.get_mut(place)?;
        (u64::from(*stamp) == number >> 32).then_some(flight)
    }

    /// Notes what one counts towards the bound on bytes from now on.
    pub(super) fn set_bytes(&mut self, number: u64, bytes: usize) {
        if let Some(flight) = self.get_mut(number) {
            let before = std::mem::replace(&mut flight.bytes, bytes);
            self.bytes = self.bytes + bytes - before;
        }
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, number: u64) -> Option<Flight> {
        self.get_mut(number)?;
        let place = usize::try_from(number & u64::from(u32::MAX)).ok()?;
        let (_, flight) = self.flights.remove(place);
        self.bytes -= flight.bytes;
        if let Some(deadline) = flight.deadline {
            self.deadlines.remove(&(deadline, number));
        }
        Some(flight)
    }

    /// Takes out all for which the question is true.
    pub(super) fn forget(&mut self, is_meant: impl Fn(&Flight) -> bool) {
        let meant = self.flights.iter().filter(|(_, (_, flight))| is_meant(flight));
        let meant: Vec<u64> = meant.map(|(place, (stamp, _))| number(*stamp, place)).collect();
        for number in meant {
            self.remove(number);
        }
    }

    /// The next one that still waits although its time is over.
    pub(super) fn pop_expired(&mut self, now: Instant) -> Option<u64> {
        while self.deadlines.first().is_some_and(|(deadline, _)| *deadline <= now) {
            let (_, number) = self.deadlines.pop_first()?;
            if self.get_mut(number).is_some_and(|flight| matches!(flight.stage, Stage::Waiting)) {
                return Some(number);
            }
        }
        None
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    /// Bytes of their records, and of their outcomes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Places are bounded by the commands under way, far below 32 bits.
fn number(stamp: u32, place: usize) -> u64 {
    u64::from(stamp) << 32 | u64::try_from(place).unwrap_or(u64::MAX) & u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::queue::kafka::downlink::partitions::Partitions;

    fn flight(deadline: Option<Instant>) -> Flight {
        let mut partitions = Partitions::default();
        partitions.assign(&[0]);
        let origin = partitions.take(0, 0).expect("the partition is here");
        Flight { origin, identity: None, stage: Stage::Waiting, bytes: 10, deadline, span: None }
    }

    #[test]
    fn a_number_names_one_command_even_when_its_place_is_taken_again() {
        let mut flights = Flights { next_stamp: STAMP_MAX, ..Flights::default() };
        let first = flights.insert(flight(None));
        assert!(flights.remove(first).is_some());
        let second = flights.insert(flight(None));
        assert!(flights.remove(first).is_none());
        assert_eq!((flights.len(), flights.bytes(), first >> 63), (1, 10, 0));
        flights.set_bytes(first, 70);
        flights.set_bytes(second, 7);
        assert_eq!(flights.bytes(), 7, "the outcome counts in the place of the record");
        flights.forget(|flight| flight.deadline.is_none());
        assert!(flights.remove(second).is_none());
        assert_eq!((flights.len(), flights.bytes()), (0, 0));
    }

    #[test]
    fn only_what_still_waits_expires_and_once() {
        let mut flights = Flights::default();
        let now = Instant::now();
        let [early, late, gone] =
            [1, 2, 1].map(|seconds| flights.insert(flight(Some(now + Duration::from_secs(seconds)))));
        flights.remove(gone);
        assert_eq!(flights.pop_expired(now), None);
        let then = now + Duration::from_secs(1);
        assert_eq!((flights.pop_expired(then), flights.pop_expired(then)), (Some(early), None));
        assert_eq!(flights.pop_expired(now + Duration::from_secs(2)), Some(late));
    }
}
