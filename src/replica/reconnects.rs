//! Limits CONNECTs of one device: each costs a look-up and three envelopes.

use super::recent::{Expiring, Recent};
use crate::protocol::id::DeviceId;

/// CONNECTs of one device at once; one more is refused.
const CONNECTS_MAX: u64 = 60;

/// After those, one in this time, us.
const PAUSE_US: u64 = 1_000_000;

/// The recent CONNECTs of each device on this replica. 2 MiB at most.
#[derive(Debug, Default)]
pub struct Reconnects {
    devices: Recent<Rate>,
}

/// When the device will have been quiet for long enough to have connected never, us. Each CONNECT puts it off by
/// [`PAUSE_US`].
#[derive(Debug, Default)]
struct Rate {
    quiet_us: u64,
}

impl Reconnects {
    /// Whether one more CONNECT of the device is refused.
    pub fn refuses(&self, device: &str, now_us: u64) -> bool {
        self.devices.get(device).is_some_and(|rate| rate.quiet_us > now_us + (CONNECTS_MAX - 1) * PAUSE_US)
    }

    /// Counts a CONNECT that was accepted.
    pub fn note(&mut self, device: &DeviceId, now_us: u64) {
        if let Some(rate) = self.devices.entry(device, now_us) {
            rate.quiet_us = rate.quiet_us.max(now_us) + PAUSE_US;
        }
    }
}

impl Expiring for Rate {
    fn is_expired(&self, now_us: u64) -> bool {
        now_us >= self.quiet_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the CONNECTs at these times are accepted.
    fn accepted(times_us: impl IntoIterator<Item = u64>) -> usize {
        let device = DeviceId::new("device1").expect("a valid id");
        let mut reconnects = Reconnects::default();
        let mut connect = |now_us| {
            let refused = reconnects.refuses("device1", now_us);
            if !refused {
                reconnects.note(&device, now_us);
            }
            !refused
        };
        times_us.into_iter().filter(|&now_us| connect(now_us)).count()
    }

    #[test]
    fn a_device_that_connects_without_end_is_let_in_60_times_and_then_once_a_second() {
        const MS: u64 = 1_000;
        let table = [
            ("all at once", (0..100_000).map(|_| 0).collect::<Vec<u64>>(), 60),
            ("a thousand a second, for ten seconds", (0..10_000).map(|n| n * MS).collect(), 69),
            ("ten a second, for a minute", (0..600).map(|n| n * 100 * MS).collect(), 119),
            ("one a second, for a day", (0..86_400).map(|n| n * 1_000 * MS).collect(), 86_400),
            ("sixty at once, every minute", (0..60).flat_map(|n| [n * 60_000 * MS; 60]).collect(), 3_600),
        ];
        for (case, times_us, expected) in table {
            assert_eq!(accepted(times_us), expected, "{case}");
        }
    }
}
