//! Callers that wait for an outcome.

use async_nats::Subject;
use slab::Slab;

use crate::protocol::downlink::Ticket;

/// Stamps have 31 bits: the highest bit of a ticket stays clear, so that a worker with commands from two queues can tell
/// their tickets apart.
const STAMP_MAX: u32 = u32::MAX >> 1;

/// Reply subjects by ticket. A ticket is good for one outcome.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    callers: Slab<Caller>,
    next_stamp: u32,
}

#[derive(Debug)]
struct Caller {
    stamp: u32,
    reply: Subject,
}

impl Tickets {
    /// A ticket for this caller.
    pub(super) fn issue(&mut self, reply: Subject) -> Ticket {
        let stamp = self.next_stamp;
        self.next_stamp = (stamp + 1) & STAMP_MAX;
        let place = self.callers.insert(Caller { stamp, reply });
        Ticket(u64::from(stamp) << 32 | u64::try_from(place).unwrap_or(u64::MAX) & u64::from(u32::MAX))
    }

    /// Bytes that are kept of the caller of a ticket.
    pub(super) fn held_bytes(&self, ticket: Ticket) -> usize {
        self.find(ticket).map_or(0, |place| size_of::<Caller>() + self.callers[place].reply.len())
    }

    fn find(&self, ticket: Ticket) -> Option<usize> {
        let place = usize::try_from(ticket.0 & u64::from(u32::MAX)).ok()?;
        let caller = self.callers.get(place)?;
        (u64::from(caller.stamp) == ticket.0 >> 32).then_some(place)
    }

    /// The caller of a ticket; `None` when it has had its outcome.
    pub(super) fn redeem(&mut self, ticket: Ticket) -> Option<Subject> {
        let place = self.find(ticket)?;
        Some(self.callers.remove(place).reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_for_one_outcome_even_when_its_place_is_taken_again() {
        let mut tickets = Tickets::default();
        let first = tickets.issue(Subject::from_static("_INBOX.a"));
        assert_eq!(tickets.redeem(first).as_deref(), Some("_INBOX.a"));
        let second = tickets.issue(Subject::from_static("_INBOX.b"));
        assert_eq!((tickets.redeem(first), tickets.held_bytes(first)), (None, 0));
        assert_eq!(tickets.held_bytes(second), size_of::<Caller>() + 8);
        assert_eq!(tickets.redeem(second).as_deref(), Some("_INBOX.b"));
    }

    #[test]
    fn the_highest_bit_of_a_ticket_is_always_clear() {
        let mut tickets = Tickets { next_stamp: STAMP_MAX, ..Tickets::default() };
        for _ in 0..3 {
            let ticket = tickets.issue(Subject::from_static("_INBOX.a"));
            assert_eq!(ticket.0 >> 63, 0);
            assert!(tickets.redeem(ticket).is_some());
        }
    }
}
