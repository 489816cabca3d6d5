//! Connections that are not read: their sessions take no input, or there is no room for more of it.

use crate::protocol::uplink::SlotId;
use crate::transport::traits::Pauses;

/// A connection that found no room shows again within this time, us.
const CROWDED_US: u64 = 3_000_000;

/// The connections of one worker that are not read. 16 bytes a connection.
#[derive(Debug, Default)]
pub(super) struct Paused {
    connections: Vec<SlotId>,
    pauses: Pauses,
    /// When a connection last found no room for what it has to say; `None`: never.
    crowded_us: Option<u64>,
}

impl Paused {
    /// Adds a connection, which must not be in the list.
    pub(super) fn add(&mut self, connection: SlotId, now_us: u64) {
        self.connections.push(connection);
        self.pauses.set(self.connections.len(), now_us);
    }

    /// Takes those connections out that are read again, or gone: `stays` is not true of them.
    pub(super) fn retain(&mut self, now_us: u64, mut stays: impl FnMut(SlotId) -> bool) {
        self.connections.retain(|&connection| stays(connection));
        self.pauses.set(self.connections.len(), now_us);
    }

    /// Notes that a connection finds no room.
    pub(super) fn note_crowded(&mut self, now_us: u64) {
        self.crowded_us = Some(now_us);
    }

    /// Whether connections wait for room, so that others may not keep it without need.
    pub(super) fn is_crowded(&self, now_us: u64) -> bool {
        self.crowded_us.is_some_and(|crowded_us| now_us.saturating_sub(crowded_us) < CROWDED_US)
    }

    /// Number of connections, and the time that they waited.
    pub(super) fn pauses(&self) -> Pauses {
        self.pauses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(slot: u32) -> SlotId {
        SlotId { index: slot, generation: 0 }
    }

    #[test]
    fn connections_count_from_their_pause_until_they_are_read_again() {
        let mut paused = Paused::default();
        paused.add(connection(1), 1_000);
        paused.add(connection(2), 2_000);
        paused.retain(5_000, |paused| paused != connection(1));
        assert_eq!((paused.pauses().connections(), paused.pauses().total_us()), (1, 1_000 + 2 * 3_000));
        let mut seen = Vec::new();
        paused.retain(6_000, |paused| {
            seen.push(paused);
            false
        });
        assert_eq!(seen, [connection(2)]);
        assert_eq!((paused.pauses().connections(), paused.pauses().total_us()), (0, 8_000));
    }

    #[test]
    fn a_worker_is_crowded_for_three_seconds_after_a_connection_found_no_room() {
        let mut paused = Paused::default();
        assert!(!paused.is_crowded(0) && !paused.is_crowded(10 * CROWDED_US));
        paused.note_crowded(5);
        assert!(paused.is_crowded(5) && paused.is_crowded(4 + CROWDED_US));
        assert!(!paused.is_crowded(5 + CROWDED_US));
    }
}
