//! Networks that failed more often than they succeeded lately.

use std::collections::HashMap;

use crate::protocol::network::Network;

/// Networks that are remembered; of further ones nothing is noted. Some 50 bytes each.
const NETWORKS_MAX: usize = 16_384;

/// Excess of failures over successes after which a network is served after the others.
const FAILURES_MAX: u64 = 10;

/// Most failures that are remembered of one network, so that all are forgotten in the end.
const FAILURES_KEPT: u64 = 60;

/// Time after which one failure is forgotten, us.
const FORGIVEN_US: u64 = 1_000_000;

/// Pause between two looks for what can be forgotten, us.
const SWEEP_US: u64 = 1_000_000;

/// Recent failures by network.
#[derive(Debug, Default)]
pub struct Failures {
    /// Time at which each network has no failure left, us.
    until_us: HashMap<Network, u64>,
    sweep_us: u64,
}

impl Failures {
    /// Notes a failure.
    pub fn note_failure(&mut self, network: Network, now_us: u64) {
        if self.until_us.len() >= NETWORKS_MAX && !self.until_us.contains_key(&network) {
            // Each look is a walk over all of them.
            if now_us < self.sweep_us {
                return;
            }
            self.sweep_us = now_us + SWEEP_US;
            self.until_us.retain(|_, until_us| *until_us > now_us);
            if self.until_us.len() >= NETWORKS_MAX {
                return;
            }
        }
        let until_us = self.until_us.entry(network).or_default();
        *until_us = ((*until_us).max(now_us) + FORGIVEN_US).min(now_us + FAILURES_KEPT * FORGIVEN_US);
    }

    /// Notes a success, which makes up for a failure.
    pub fn note_success(&mut self, network: Network, now_us: u64) {
        if let Some(until_us) = self.until_us.get_mut(&network) {
            *until_us = until_us.saturating_sub(FORGIVEN_US);
            if *until_us <= now_us {
                self.until_us.remove(&network);
            }
        }
    }

    /// Whether the network is served after the others.
    pub fn is_served_last(&self, network: Network, now_us: u64) -> bool {
        self.until_us.get(&network).is_some_and(|until_us| *until_us > now_us + FAILURES_MAX * FORGIVEN_US)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn network(number: usize) -> Network {
        let [.., high, low] = number.to_be_bytes();
        Network::of([10, 0, high, low].into())
    }

    #[test]
    fn a_network_is_put_back_while_it_fails_more_often_than_not() {
        let mut failures = Failures::default();
        (0..10).for_each(|_| failures.note_failure(network(1), 0));
        assert!(!failures.is_served_last(network(1), 0));
        failures.note_failure(network(1), 0);
        assert!(failures.is_served_last(network(1), 0) && !failures.is_served_last(network(2), 0));
        failures.note_success(network(1), 0);
        assert!(!failures.is_served_last(network(1), 0), "it made up for one");
        (0..1_000).for_each(|_| failures.note_failure(network(1), 0));
        assert!(failures.is_served_last(network(1), 49 * SECOND));
        assert!(!failures.is_served_last(network(1), 50 * SECOND), "it is forgiven however often it failed");
        (0..100).for_each(|_| failures.note_success(network(1), 50 * SECOND));
        assert!(failures.until_us.is_empty());
        // A site of thousand devices of which one has a wrong key.
        for second in 0..1000 {
            failures.note_failure(network(3), second * SECOND);
            failures.note_success(network(3), second * SECOND);
            assert!(!failures.is_served_last(network(3), second * SECOND));
        }
    }

    #[test]
    fn networks_are_forgotten_when_there_are_many_and_their_time_is_over() {
        let mut failures = Failures::default();
        (0..NETWORKS_MAX + 10).for_each(|number| failures.note_failure(network(number), 0));
        assert_eq!(failures.until_us.len(), NETWORKS_MAX);
        failures.note_failure(network(NETWORKS_MAX), SECOND);
        assert_eq!(failures.until_us.len(), 1);
    }
}
