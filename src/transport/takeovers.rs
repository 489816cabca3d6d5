//! Damps devices whose sessions replace one another without end.

use std::collections::HashMap;

use crate::protocol::id::DeviceId;

/// Takeovers of one device within [`WINDOW_US`]; one more is refused.
const TAKEOVERS_MAX: usize = 5;

/// Takeovers within this time count together, us. Times are of a clock that never goes back: a system clock that is
/// set must not shut a device out.
const WINDOW_US: u64 = 60_000_000;

/// After a refusal everything is refused for this long, us.
const PENALTY_US: u64 = 30_000_000;

/// Devices that are remembered before those that were quiet for long enough are forgotten; 1 MiB at most for as many
/// that are not.
const FORGET_ABOVE: usize = 4_096;

/// When devices were taken over of late, on this replica or away from it.
#[derive(Debug, Default)]
pub struct Takeovers {
    devices: HashMap<DeviceId, History>,
}

#[derive(Debug, Default)]
struct History {
    times_us: Vec<u64>,
    refused_until_us: u64,
}

impl Takeovers {
    /// Counts a takeover.
    pub fn note(&mut self, device: &DeviceId, now_us: u64) {
        if self.devices.len() >= FORGET_ABOVE {
            self.devices.retain(|_, history| !history.is_over(now_us));
        }
        let history = self.devices.entry(device.clone()).or_default();
        history.forget_before(now_us);
        if history.times_us.len() < TAKEOVERS_MAX {
            history.times_us.push(now_us);
        }
    }

    /// Whether a new session of the device is refused at that time, since it would be, or may be, one takeover too many.
    pub fn refuses(&mut self, device: &DeviceId, would_take_over: bool, now_us: u64) -> bool {
        let Some(history) = self.devices.get_mut(device) else { return false };
        if now_us < history.refused_until_us {
            return true;
        }
        history.forget_before(now_us);
        if would_take_over && history.times_us.len() == TAKEOVERS_MAX {
            history.refused_until_us = now_us + PENALTY_US;
            return true;
        }
        false
    }
}

impl History {
    fn forget_before(&mut self, now_us: u64) {
        self.times_us.retain(|&time_us| time_us + WINDOW_US > now_us);
    }

    fn is_over(&self, now_us: u64) -> bool {
        now_us >= self.refused_until_us && self.times_us.last().is_none_or(|&time_us| time_us + WINDOW_US <= now_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> DeviceId {
        DeviceId::new("device1").expect("a valid id")
    }

    fn take_over(takeovers: &mut Takeovers, now_us: u64) -> bool {
        let refused = takeovers.refuses(&device(), true, now_us);
        if !refused {
            takeovers.note(&device(), now_us);
        }
        !refused
    }

    #[test]
    fn the_sixth_takeover_within_a_minute_and_all_in_the_next_30_s_are_refused() {
        let mut takeovers = Takeovers::default();
        assert!((0..5).all(|n| take_over(&mut takeovers, n * 10_000_000)));
        assert!(!take_over(&mut takeovers, 50_000_000));
        assert!(!take_over(&mut takeovers, 79_999_999), "within the penalty");
        assert!(take_over(&mut takeovers, 80_000_000));
    }

    #[test]
    fn takeovers_far_apart_are_never_refused() {
        let mut takeovers = Takeovers::default();
        assert!((0..100).all(|n| take_over(&mut takeovers, n * 12_000_000)));
    }

    #[test]
    fn quiet_devices_are_forgotten() {
        let mut takeovers = Takeovers::default();
        for n in 0..FORGET_ABOVE {
            takeovers.note(&DeviceId::new(&format!("device{n}")).expect("a valid id"), 0);
        }
        takeovers.note(&device(), WINDOW_US);
        assert_eq!(takeovers.devices.len(), 1);
    }
}
