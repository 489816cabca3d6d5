//! The other replicas that were heard recently.

use std::collections::HashMap;

/// A replica of which nothing was heard for this time is taken for gone, us. One that takes over a device, or whose connection
/// to NATS is made again, is heard.
const REMEMBERED_US: u64 = 300_000_000;

/// Replicas that are remembered; further ones are not counted. Each takes some 100 bytes.
const REPLICAS_MAX: usize = 256;

/// Other replicas, each with the time at which it was heard last, us.
#[derive(Debug, Default)]
pub(super) struct OtherReplicas {
    heard: HashMap<Box<str>, u64>,
}

impl OtherReplicas {
    /// Notes that a claim of that replica came.
    pub(super) fn hear(&mut self, replica: &str, now_us: u64) {
        if let Some(heard_us) = self.heard.get_mut(replica) {
            *heard_us = now_us;
            return;
        }
        if self.heard.len() >= REPLICAS_MAX {
            self.heard.retain(|_, heard_us| is_remembered(*heard_us, now_us));
        }
        if self.heard.len() < REPLICAS_MAX {
            self.heard.insert(replica.into(), now_us);
        }
    }

    /// The number of those that were heard recently.
    pub(super) fn count(&self, now_us: u64) -> usize {
        self.heard.values().filter(|heard_us| is_remembered(**heard_us, now_us)).count()
    }
}

fn is_remembered(heard_us: u64, now_us: u64) -> bool {
    now_us.saturating_sub(heard_us) < REMEMBERED_US
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_count_once_until_nothing_is_heard_of_them_and_their_number_is_bounded() {
        let mut others = OtherReplicas::default();
        others.hear("replica1", 0);
        others.hear("replica2", 1);
        others.hear("replica1", 2);
        assert_eq!(others.count(3), 2);
        assert_eq!(others.count(REMEMBERED_US + 1), 1, "replica2 is gone");
        for number in 0..2 * REPLICAS_MAX {
            others.hear(&format!("restarted{number}"), 3);
        }
        assert_eq!(others.count(3), REPLICAS_MAX);
        others.hear("replica3", REMEMBERED_US + 3);
        assert_eq!(others.count(REMEMBERED_US + 3), 1);
    }
}
