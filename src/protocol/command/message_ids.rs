//! The message ids that the bridge gives to commands without one.

/// Numbers that there are for each second; with [`SECONDS`] 15 decimal digits.
const PER_SECOND: u64 = 10_000_000;

/// Seconds until the numbers begin again: three years and two months.
const SECONDS: u64 = 100_000_000;

/// Gives message ids: decimal, at most 15 digits. A device that keeps them in a double (53 bits), as many JSON libraries
/// do with every number, gives them back unchanged.
///
/// An id is the second and one of ten million numbers of that second. The workers of a replica share those evenly, beginning
/// at a number that is drawn at start. So within three years no two ids of one worker are the same, nor two of one
/// replica, as long as its clock is not set back while it is down. Two replicas, or two starts within the same second, may
/// draw numbers next to each other: with `n` commands a second on each of `w` workers that happens in `2 * n * w` of ten
/// million cases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageIds {
    /// Since 1970, never back; ahead of the clock where a second's share was used up.
    second: u64,
    /// First number of this worker in each second.
    first: u64,
    /// Count of its numbers in each second.
    share: u64,
    /// Count of numbers that are used in this second.
    used: u64,
}

impl MessageIds {
    /// The ids of worker number `worker` of `workers`. `place` is random, and the same for all workers of a replica.
    pub fn new(place: u64, worker: usize, workers: usize) -> Self {
        let (worker, workers) = (worker as u64, (workers as u64).clamp(1, PER_SECOND));
        let share = PER_SECOND / workers;
        Self { second: 0, first: (place % PER_SECOND + worker % workers * share) % PER_SECOND, share, used: 0 }
    }

    /// The next id at that time, ms since 1970.
    pub fn next(&mut self, unix_ms: u64) -> String {
        let second = unix_ms / 1000;
        if second > self.second {
            (self.second, self.used) = (second, 0);
        } else if self.used == self.share {
            (self.second, self.used) = (self.second + 1, 0);
        }
        let number = (self.first + self.used) % PER_SECOND;
        self.used += 1;
        (self.second % SECONDS * PER_SECOND + number).to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const NOW_MS: u64 = 1_795_657_907_503;

    #[test]
    fn an_id_survives_a_double_and_has_at_most_15_digits() {
        for unix_ms in [0, NOW_MS, 1_799_999_999_999, 1_800_000_000_000, u64::MAX] {
            for place in [0, PER_SECOND - 1, u64::MAX] {
                let mut ids = MessageIds::new(place, 6, 7);
                for _ in 0..3 {
                    let id = ids.next(unix_ms);
                    let double: f64 = id.parse().expect("digits");
                    assert_eq!(format!("{double:.0}"), id);
                    assert!(id.len() <= 15 && id.bytes().all(|byte| byte.is_ascii_digit()), "{id}");
                }
            }
        }
    }

    #[test]
    fn no_two_ids_of_a_replica_are_the_same_however_many_are_taken_and_wherever_its_clock_goes() {
        let place = PER_SECOND - 1_000_000;
        let mut workers: Vec<MessageIds> = (0..4).map(|worker| MessageIds::new(place, worker, 4)).collect();
        let mut seen = HashSet::new();
        for unix_ms in [NOW_MS, NOW_MS + 1000, NOW_MS, 0, NOW_MS + 5000] {
            for ids in &mut workers {
                for _ in 0..10_000 {
                    assert!(seen.insert(ids.next(unix_ms)));
                }
            }
        }
    }

    #[test]
    fn a_worker_that_has_used_its_share_of_a_second_goes_on_in_the_next_one() {
        let workers = 5_000_000;
        let mut first = MessageIds::new(0, 0, workers);
        let taken: Vec<String> = (0..5).map(|_| first.next(NOW_MS)).collect();
        let mut second = MessageIds::new(0, 1, workers);
        let others: Vec<String> = (0..5).map(|_| second.next(NOW_MS)).collect();
        assert_eq!(
            taken,
            ["956579070000000", "956579070000001", "956579080000000", "956579080000001", "956579090000000"]
        );
        assert!(others.iter().all(|id| !taken.contains(id)), "{others:?}");
    }

    #[test]
    fn a_start_in_a_later_second_gives_other_ids_wherever_its_numbers_begin() {
        let ids = |unix_ms| {
            let mut ids = MessageIds::new(7, 0, 1);
            (0..10_000).map(|_| ids.next(unix_ms)).collect::<HashSet<_>>()
        };
        assert!(ids(NOW_MS).is_disjoint(&ids(NOW_MS + 1000)));
    }
}
