//! Life of a device that its session cannot see: bytes that it takes, and bytes that it sends while they are not read.
//!
//! The session measures the keep-alive from the last byte that was read ([`Session::heard`]). A byte counts as much that the
//! device takes, and one that waits unread behind answers which the device has not taken. Both show in the counters of
//! the system alone: what a write takes is in the system's buffer, and the device may be long dead.
//!
//! [`Session::heard`]: crate::session::mqtt::Session::heard

use crate::transport::socket::Counters;

/// The system's counters of one connection, as they were when they were last read.
#[derive(Debug, Default)]
pub struct Liveness {
    /// [`Counters::received`] at the last look.
    received: u64,
    /// [`Counters::taken`] at the last look.
    taken: u64,
    /// Whether something of MQTT may still be on its way to the device.
    owes_bytes: bool,
}

impl Liveness {
    /// Notes that bytes of MQTT were written, be it only to a buffer. What WebSocket and TLS say by themselves is no sign
    /// of life.
    pub fn note_written(&mut self) {
        self.owes_bytes = true;
    }

    /// Whether the device may have taken something since the last look.
    pub fn owes_bytes(&self) -> bool {
        self.owes_bytes
    }

    /// Looks at the counters at `now_us`; when the last byte went that is news. `is_blocked`: the connection is not read, as
    /// something waits that the system did not take yet.
    ///
    /// The moment is exact but for a device without room: of bytes that it took since a look long ago it is known that
    /// they were taken, not when. It gains one keep-alive by that, once.
    pub fn look(&mut self, counters: Counters, is_blocked: bool, now_us: u64) -> Option<u64> {
        let has_taken = self.owes_bytes && counters.taken != self.taken;
        let has_sent = is_blocked && counters.received != self.received;
        (self.taken, self.received) = (counters.taken, counters.received);
        self.owes_bytes = is_blocked || !counters.is_all_taken;
        let taken_us = has_taken.then(|| now_us.saturating_sub(counters.taken_ago_us));
        let received_us = has_sent.then(|| now_us.saturating_sub(counters.received_ago_us));
        taken_us.max(received_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counters of a connection that got its last byte 7 s ago, and whose last acknowledgement came 3 s ago.
    fn counters(received: u64, taken: u64) -> Counters {
        Counters { received, received_ago_us: 7_000, taken, taken_ago_us: 3_000, is_all_taken: false }
    }

    #[test]
    fn what_the_device_takes_is_life_and_what_it_took_before_is_none() {
        let mut liveness = Liveness::default();
        liveness.note_written();
        assert_eq!(liveness.look(counters(5, 100), false, 10_000), Some(7_000));
        assert_eq!(liveness.look(counters(5, 100), false, 11_000), None);
        assert_eq!(liveness.look(counters(5, 101), false, 12_000), Some(9_000));
    }

    #[test]
    fn what_is_sent_counts_here_only_while_it_is_not_read() {
        let mut liveness = Liveness::default();
        assert_eq!(liveness.look(counters(5, 100), true, 10_000), Some(3_000));
        assert_eq!(liveness.look(counters(5, 100), true, 10_000), None);
        assert_eq!(liveness.look(counters(6, 100), false, 10_000), None, "this byte is read, or no packet's");
        assert_eq!(liveness.look(counters(7, 101), true, 10_000), Some(7_000), "the later of both");
    }

    #[test]
    fn nothing_is_owed_once_all_was_taken_and_no_answer_to_a_ping_of_websocket_counts() {
        let mut liveness = Liveness::default();
        liveness.note_written();
        let all_taken = |taken| Counters { is_all_taken: true, ..counters(5, taken) };
        assert_eq!(liveness.look(all_taken(100), false, 10_000), Some(7_000));
        assert!(!liveness.owes_bytes());
        assert_eq!(liveness.look(all_taken(110), false, 10_000), None);
        liveness.note_written();
        assert_eq!(liveness.look(all_taken(120), true, 10_000), Some(7_000));
        assert!(liveness.owes_bytes(), "something waits that the system did not take");
    }
}
