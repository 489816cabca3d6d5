//! Fair shares by network: no network can use up a resource that is bounded for all.
//!
//! - [`Waiting`]: a queue for each network; the queues take turns, and the newest item of the longest one is refused when
//!   too many wait.
//! - [`Room`]: a bounded amount. A network gets no more of it than is free, so that one alone gets a half, two get a third
//!   each, and there is always some left for the next.
//! - [`Rate`]: a bounded amount in each interval of time.
//! - [`Failures`]: networks that failed more often than they succeeded lately, and are served after the others.
//!
//! Behind a balancer without the PROXY protocol all devices are one network.

mod failures;
mod waiting;

use std::collections::HashMap;

pub use failures::Failures;
pub use waiting::Waiting;

use crate::protocol::network::Network;

/// A bounded amount, shared by networks. Keeps one entry for each network that has some of it.
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

    /// Takes that amount for a network, unless the network would have more than is free then; returns whether it was taken.
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

    /// Gives an amount back.
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

/// Shortest time for which shares are counted, us. Short against the time after which a client tries again, so that it does
/// not find the same moment of the next one.
const WINDOW_US: u64 = 100_000;

/// A bounded amount in each interval. Nothing waits: a refused caller must ask again.
#[derive(Debug)]
pub struct Rate {
    room: Room,
    window_us: u64,
    began_us: u64,
}

impl Rate {
    /// A rate of `per_second`, of which one network gets half.
    pub fn new(per_second: u64, now_us: u64) -> Self {
        let per_second = per_second.max(1);
        // Two at least, or there was no half.
        let window_us = WINDOW_US.max(2_000_000_u64.div_ceil(per_second));
        let total = per_second.saturating_mul(window_us) / 1_000_000;
        Self { room: Room::new(usize::try_from(total).unwrap_or(usize::MAX)), window_us, began_us: now_us }
    }

    /// Whether the network may have one more in this interval.
    pub fn take(&mut self, network: Network, now_us: u64) -> bool {
        if now_us.saturating_sub(self.began_us) >= self.window_us {
            self.began_us = now_us;
            self.room.clear();
        }
        self.room.take(network, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: u8) -> Network {
        Network::of([10, 0, 0, number].into())
    }

    /// Number of times that a network can take that much.
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

    /// Amount a second that each of these networks gets when it asks all the time.
    fn taken<const N: usize>(per_second: u64, networks: [u8; N]) -> [usize; N] {
        let mut rate = Rate::new(per_second, 0);
        let mut taken = [0; N];
        for ms in 0..10_000 {
            for _ in 0..10 {
                for (number, count) in networks.iter().zip(&mut taken) {
                    *count += usize::from(rate.take(network(*number), ms * 1000));
                }
            }
        }
        taken.map(|count| count / 10)
    }

    #[test]
    fn a_network_gets_half_of_the_rate_and_several_get_as_much_as_each_other() {
        assert_eq!(taken(1000, [1]), [500]);
        assert_eq!(taken(1000, [1, 2]), [340, 330]);
        assert_eq!(taken(1, [1]), [0], "half of one a second is one in two seconds");
        assert_eq!(taken(2, [1]), [1]);
        assert_eq!(taken(0, [1]), taken(1, [1]));
    }

    #[test]
    fn whoever_asks_rarely_is_never_refused_for_another_who_asks_all_the_time() {
        for per_second in [2, 200, 2_000, 100_000] {
            let mut rate = Rate::new(per_second, 0);
            for ms in 0..10_000_u64 {
                for _ in 0..100 {
                    rate.take(network(1), ms * 1000);
                }
                assert!(!ms.is_multiple_of(1000) || rate.take(network(2), ms * 1000), "{per_second} a second, {ms} ms");
            }
        }
    }
}
