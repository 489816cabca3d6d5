//! Messages that a simulated device has sent and that are not acknowledged yet.

use std::collections::VecDeque;

use crate::codec::mqtt::PacketId;

/// Message that a packet id stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    /// A report: its number, and its timestamp, which a second sending keeps.
    Report { n: u64, timestamp_ms: u64 },
    /// A reply to a command; it is not sent again on another connection.
    Reply,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Neither PUBACK nor PUBREC was read.
    Open,
    /// PUBREC was read.
    Received,
    /// The exchange is over; the entry waits for older ones.
    Done,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    id: PacketId,
    stage: Stage,
    message: Message,
    sent_ns: u64,
}

/// Message that an acknowledgement was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Acknowledged {
    /// The message.
    pub message: Message,
    /// When it was sent.
    pub sent_ns: u64,
}

/// The messages of one connection that are not done yet, in the order sent.
#[derive(Debug, Default)]
pub(super) struct Window {
    entries: VecDeque<Entry>,
    last_id: u16,
}

impl Window {
    /// How many messages there are from the oldest unfinished one on.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes a message in and gives it a packet id. The length must stay below 65,535.
    pub(super) fn push(&mut self, message: Message, sent_ns: u64) -> PacketId {
        self.last_id = self.last_id.wrapping_add(1).max(1);
        let id = PacketId::new(self.last_id).unwrap_or(PacketId::MIN);
        self.entries.push_back(Entry { id, stage: Stage::Open, message, sent_ns });
        id
    }

    /// Takes a PUBACK in. `None`: no message of that id waits for one.
    pub(super) fn take_puback(&mut self, id: PacketId) -> Option<Acknowledged> {
        let acknowledged = self.advance(id, Stage::Open, Stage::Done);
        self.drop_finished();
        acknowledged
    }

    /// Takes a PUBREC in. `None`: no message of that id waits for one.
    pub(super) fn take_pubrec(&mut self, id: PacketId) -> Option<Acknowledged> {
        self.advance(id, Stage::Open, Stage::Received)
    }

    /// Takes a PUBCOMP in.
    pub(super) fn take_pubcomp(&mut self, id: PacketId) {
        self.advance(id, Stage::Received, Stage::Done);
        self.drop_finished();
    }

    /// Empties the window for another connection. Returns number and timestamp of the reports without PUBACK or PUBREC, in the
    /// order sent.
    pub(super) fn restart(&mut self) -> impl Iterator<Item = (u64, u64)> {
        self.last_id = 0;
        std::mem::take(&mut self.entries).into_iter().filter_map(|entry| match entry.message {
            Message::Report { n, timestamp_ms } if entry.stage == Stage::Open => Some((n, timestamp_ms)),
            _ => None,
        })
    }

    fn advance(&mut self, id: PacketId, from: Stage, to: Stage) -> Option<Acknowledged> {
        let entry = self.entries.iter_mut().find(|entry| entry.id == id && entry.stage == from)?;
        entry.stage = to;
        Some(Acknowledged { message: entry.message, sent_ns: entry.sent_ns })
    }

    /// Removes what is done in front of the oldest message that is not.
    fn drop_finished(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.stage == Stage::Done) {
            self.entries.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(n: u64) -> Message {
        Message::Report { n, timestamp_ms: n * 10 }
    }

    #[test]
    fn acknowledgements_out_of_order_find_their_message_once() {
        let mut window = Window::default();
        let ids: Vec<_> = (1..=3).map(|n| window.push(report(n), n)).collect();
        assert_eq!(window.take_puback(ids[1]), Some(Acknowledged { message: report(2), sent_ns: 2 }));
        assert_eq!(window.take_puback(ids[1]), None);
        assert_eq!(window.len(), 3);
        assert!(window.take_puback(ids[0]).is_some());
        assert_eq!(window.len(), 1);
    }

    #[test]
    fn a_received_message_holds_its_place_until_complete_and_is_not_sent_again() {
        let mut window = Window::default();
        let ids: Vec<_> = (1..=2).map(|n| window.push(report(n), n)).collect();
        assert!(window.take_pubrec(ids[0]).is_some());
        assert_eq!(window.take_pubrec(ids[0]), None);
        assert_eq!(window.len(), 2);
        window.take_pubcomp(ids[0]);
        assert_eq!(window.len(), 1);
        assert!(window.take_pubrec(ids[1]).is_some());
        assert_eq!(window.restart().count(), 0);
    }

    #[test]
    fn a_restart_hands_out_unacknowledged_reports_in_order_and_no_replies() {
        let mut window = Window::default();
        let first = window.push(report(1), 1);
        window.push(Message::Reply, 1);
        window.push(report(2), 1);
        window.push(report(3), 1);
        assert!(window.take_puback(first).is_some());
        assert_eq!(window.restart().collect::<Vec<_>>(), [(2, 20), (3, 30)]);
        assert_eq!(window.len(), 0);
    }

    #[test]
    fn packet_ids_wrap_around_without_0() {
        let mut window = Window { last_id: u16::MAX, ..Window::default() };
        assert_eq!(window.push(report(1), 1), PacketId::MIN);
    }
}
