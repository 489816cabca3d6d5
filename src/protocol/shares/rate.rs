//! So many in a time.

use super::Room;
use crate::protocol::network::Network;

/// Shortest time for which shares are counted, us. Short against the time after which a client tries again, so that it does
/// not find the same moment of the next one.
const WINDOW_US: u64 = 100_000;

/// See the module above. Nobody waits: what is refused must be asked for again.
#[derive(Debug)]
pub struct Rate {
    room: Room,
    window_us: u64,
    began_us: u64,
}

impl Rate {
    /// So many a second, of which one network gets half.
    pub fn new(per_second: u64, now_us: u64) -> Self {
        let per_second = per_second.max(1);
        // Two at least, or there was no half.
        let window_us = WINDOW_US.max(2_000_000_u64.div_ceil(per_second));
        let total = per_second.saturating_mul(window_us) / 1_000_000;
        Self { room: Room::new(usize::try_from(total).unwrap_or(usize::MAX)), window_us, began_us: now_us }
    }

    /// Whether one more of that network may be.
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

    /// How many a second each of these networks gets that asks all the time.
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
