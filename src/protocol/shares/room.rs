//! Something of which there is only so much.

use std::collections::HashMap;

use crate::protocol::network::Network;

/// See the module above. Keeps one entry for each network that has some of it.
#[derive(Debug)]
pub struct Room {
    total: usize,
    free: usize,
    taken: HashMap<Network, usize>,
}

impl Room {
    /// An empty room. Whatever one network takes, there is as much left for another as the largest amount, if that is a third
    /// of the room or less.
    pub fn new(total: usize) -> Self {
        Self { total, free: total, taken: HashMap::new() }
    }

    /// Takes that much for a network, unless it would have more than is free now; whether it did.
    pub fn take(&mut self, network: Network, amount: usize) -> bool {
        let own = self.taken.get(&network).copied().unwrap_or(0);
        if own.saturating_add(amount) > self.free {
            return false;
        }
        if amount > 0 {
            self.free -= amount;
            self.taken.insert(network, own + amount);
        }
        true
    }

    /// Gives back what was taken.
    pub fn give(&mut self, network: Network, amount: usize) {
        let Some(own) = self.taken.get_mut(&network) else { return };
        let given = amount.min(*own);
        *own -= given;
        self.free += given;
        if *own == 0 {
            self.taken.remove(&network);
        }
    }

    /// Gives everything back.
    pub fn clear(&mut self) {
        self.free = self.total;
        self.taken.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: u8) -> Network {
        Network::of([10, 0, 0, number].into())
    }

    /// How often a network can take that much.
    fn fill(room: &mut Room, number: u8, amount: usize) -> usize {
        std::iter::repeat_with(|| room.take(network(number), amount)).take_while(|taken| *taken).count()
    }

    #[test]
    fn one_network_gets_half_two_get_a_third_each_and_there_is_always_some_left() {
        let mut room = Room::new(1000);
        assert_eq!(fill(&mut room, 1, 1), 500);
        assert_eq!(fill(&mut room, 2, 1), 250, "the first one has more than its part");
        room.give(network(1), 250);
        assert_eq!(fill(&mut room, 2, 1), 125);
        let mut room = Room::new(1000);
        for _ in 0..1000 {
            room.take(network(1), 1);
            room.take(network(2), 1);
        }
        assert_eq!(room.free, 333);
        assert!((3..=200).all(|number| room.take(network(number), 1)));
    }

    #[test]
    fn a_third_finds_room_beside_whatever_one_network_took() {
        for smaller in 1..=500 {
            let mut room = Room::new(1500);
            fill(&mut room, 1, smaller);
            assert!(room.take(network(2), 500), "{smaller}");
        }
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_no_network_is_remembered_without_any() {
        let mut room = Room::new(10);
        assert!(room.take(network(1), 0) && room.taken.is_empty());
        assert!(room.take(network(1), 4) && !room.take(network(1), 4));
        room.give(network(1), 4);
        room.give(network(1), 4);
        room.give(network(2), 4);
        assert_eq!((room.free, room.taken.len()), (10, 0));
        assert!(room.take(network(1), 10) && !room.take(network(2), 1));
        room.clear();
        assert!(room.take(network(2), 10));
        assert!(!room.take(network(3), usize::MAX));
    }
}
