//! A consumer as docs/wire.md ("Order and duplicates") describes it.

use std::collections::VecDeque;

/// Memory of a consumer about one device in one session: the ids that it took, rising.
///
/// The rule: a record whose id is remembered is a copy and is dropped. Any other one is taken, and the ids above its own are
/// forgotten: the queue failed to store it at first, and the bridge stores those behind it once more. So what is taken last
/// of each message is in the order in which the device sent.
///
/// Why that holds, whatever fails: a session takes a message for acknowledged by the receipt of a copy of its latest
/// sending of the window, and each sending begins at the first message that is not acknowledged. So the copies that were
/// acknowledged are stored in order: within a sending as they were handed over, and each sending after the receipts of
/// the one before. Neither first nor last copies are, in general: a message may fail where a later one is stored, and a
/// server that hung may store old copies at any time.
///
/// Bounded: a message that is not acknowledged keeps its place in the window of its session, so no more than the window
/// holds can be stored before it is. What is below that many ids is a copy.
#[derive(Debug, Default)]
pub struct Taken {
    ids: VecDeque<Box<str>>,
    /// The highest id that was forgotten for want of room.
    floor: Option<Box<str>>,
}

impl Taken {
    /// Whether the record with that id is taken, where the window of a session holds `window` messages.
    pub fn take(&mut self, id: &str, window: usize) -> bool {
        if self.floor.as_deref().is_some_and(|floor| id <= floor) {
            return false;
        }
        let above = self.ids.partition_point(|taken| **taken <= *id);
        if above.checked_sub(1).is_some_and(|last| *self.ids[last] == *id) {
            return false;
        }
        self.ids.truncate(above);
        self.ids.push_back(id.into());
        if self.ids.len() > window {
            self.floor = self.ids.pop_front();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::mqtt::PacketId;
    use crate::protocol::random::Random;
    use crate::protocol::uplink::{DeliveryId, Handover, Record, SlotId, Uplink};
    use crate::session::mqtt::fake::record;
    use crate::session::mqtt::window::{Acknowledgement, Window};

    fn taken(window: usize, ids: &[&'static str]) -> Vec<&'static str> {
        let mut consumer = Taken::default();
        ids.iter().copied().filter(|id| consumer.take(id, window)).collect()
    }

    #[test]
    fn copies_are_dropped_wherever_they_come() {
        assert_eq!(taken(9, &["1", "2", "2", "3", "1", "2", "3", "4"]), ["1", "2", "3", "4"]);
    }

    #[test]
    fn behind_a_record_that_came_late_those_above_it_are_taken_once_more() {
        assert_eq!(taken(9, &["1", "3", "4", "2", "3", "4", "3", "5"]), ["1", "3", "4", "2", "3", "4", "5"]);
    }

    #[test]
    fn a_window_is_remembered_and_what_is_below_it_is_a_copy() {
        assert_eq!(taken(2, &["1", "2", "3", "1", "2"]), ["1", "2", "3"]);
        let mut consumer = Taken::default();
        (10..99).for_each(|id| assert!(consumer.take(&id.to_string(), 3)));
        assert_eq!(consumer.ids.len(), 3);
    }

    /// Messages that a window holds in the model, and messages in all.
    const WINDOW: usize = 4;
    const MESSAGES: u16 = 9;
    const STORIES: usize = 4_000;

    /// A queue of which anything may be expected but that it changes the order of one connection.
    #[derive(Default)]
    struct Queue {
        /// Records in each connection, the present one last; the others are of servers that hang.
        connections: Vec<VecDeque<(DeliveryId, Record)>>,
        stored: Vec<String>,
        receipts: Vec<(DeliveryId, bool)>,
    }

    impl Uplink for Queue {
        fn publish(&mut self, id: DeliveryId, record: &Record) -> Handover {
            self.connections.last_mut().expect("there is one").push_back((id, record.clone()));
            Handover::Taken
        }

        fn flush(&mut self) {}
    }

    impl Queue {
        /// Deals with the oldest record of a connection: stores it or not, tells of it or not.
        fn advance(&mut self, connection: usize, is_stored: bool, is_told: bool) {
            let Some((id, record)) = self.connections[connection].pop_front() else { return };
            if is_stored {
                self.stored.push(String::from_utf8(record.payload.to_vec()).expect("a number"));
            }
            if is_told {
                self.receipts.push((id, is_stored));
            }
        }
    }

    /// Lets messages go through a window to a queue that fails in any way; what is stored, in order, once all are
    /// acknowledged and every server has woken.
    fn story(random: &mut Random) -> Vec<String> {
        let mut queue = Queue { connections: vec![VecDeque::new()], ..Queue::default() };
        let mut window = Window::new(SlotId { index: 0, generation: 0 });
        let (mut sent, mut acknowledged, mut steps) = (0, 0, 0);
        while acknowledged < MESSAGES {
            steps += 1;
            let mut draw = |below: u64| random.draw() % below;
            // At last all goes well.
            let fails = steps < 60;
            match draw(16) {
                0..5 if sent < MESSAGES && window.len() < WINDOW => {
                    sent += 1;
                    let owed = Acknowledgement::Puback(PacketId::new(sent).expect("above 0"));
                    window.push(Some(record(&sent.to_string())), None, owed, 0, &mut queue);
                }
                // The same connection goes on, or another one takes its place and this one hangs.
                5 if fails || queue.connections.last().is_some_and(VecDeque::is_empty) => {
                    if draw(2) == 0 {
                        // Whoever waits on a connection that is gone hears nothing of it any more.
                        queue.receipts.clear();
                        queue.connections.push(VecDeque::new());
                    }
                    window.resend(0, &mut queue);
                }
                6 if fails => {
                    let hung = draw(queue.connections.len() as u64) as usize;
                    if hung + 1 < queue.connections.len() {
                        queue.advance(hung, draw(4) > 0, false);
                    }
                }
                7..9 if !queue.receipts.is_empty() => {
                    let number = draw(queue.receipts.len() as u64) as usize;
                    let (delivery, is_stored) = queue.receipts.swap_remove(number);
                    window.settle(delivery.sequence, is_stored, 0);
                    while window.pop().is_some() {
                        acknowledged += 1;
                    }
                }
                9.. => {
                    let (is_stored, is_told) = (!fails || draw(4) > 0, !fails || draw(6) > 0);
                    queue.advance(queue.connections.len() - 1, is_stored, is_told);
                }
                _ => {}
            }
        }
        for hung in 0..queue.connections.len() {
            (0..queue.connections[hung].len()).for_each(|_| queue.advance(hung, true, false));
        }
        queue.stored
    }

    /// The messages by the place of the last record of each among these.
    fn by_last(records: &[String]) -> Vec<u16> {
        let mut numbers: Vec<u16> = (1..=MESSAGES).collect();
        numbers.sort_by_key(|number| records.iter().rposition(|record| *record == number.to_string()));
        numbers
    }

    #[test]
    fn what_a_consumer_takes_last_is_in_order_however_the_queue_fails() {
        let in_order: Vec<u16> = (1..=MESSAGES).collect();
        let mut random = Random::new(7);
        let (mut first_copies, mut last_copies) = (0, 0);
        for number in 0..STORIES {
            let stored = story(&mut random);
            let mut consumer = Taken::default();
            let taken: Vec<String> = stored.iter().filter(|id| consumer.take(id, WINDOW)).cloned().collect();
            assert_eq!(by_last(&taken), in_order, "story {number}: {stored:?} taken as {taken:?}");
            for message in &in_order {
                assert!(taken.contains(&message.to_string()), "story {number}: {message} of {stored:?}");
            }
            last_copies += usize::from(by_last(&stored) != in_order);
            let mut seen = Vec::new();
            stored.iter().for_each(|record| {
                if !seen.contains(record) {
                    seen.push(record.clone());
                }
            });
            first_copies += usize::from(by_last(&seen) != in_order);
        }
        assert!(first_copies > 0 && last_copies > 0, "neither first nor last copies are in order by themselves");
        println!("of {STORIES}: first copies out of order {first_copies}, last copies {last_copies}");
    }
}
