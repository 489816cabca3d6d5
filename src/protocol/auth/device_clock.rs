//! The clock of a device, as far as a timestamp shows it.

use std::fmt;

use super::TIMESTAMP_WINDOW_MS;

/// Largest difference that a timestamp of another unit may have from the bridge's clock, once it is converted, in ms: a day.
const OTHER_UNIT_MS: i64 = 86_400_000;

/// A clock that shows an earlier time was never set, ms since 1970: the year 2020.
const SET_SINCE_MS: i64 = 1_577_836_800_000;

/// Time zones differ by multiples of this, and by less than fifteen hours from UTC.
const TIME_ZONE_MS: i64 = 1_800_000;
const TIME_ZONES: i64 = 28;

/// Largest difference of a clock from a time zone's that is set right, ms.
const RIGHT_MS: i64 = 60_000;

/// Difference of a device's clock from the bridge's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockOff {
    /// Positive: it is ahead.
    pub ms: i64,
}

impl fmt::Display for ClockOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:+} s", self.ms / 1000)
    }
}

/// A device's clock, by a timestamp that it sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceClock {
    /// Difference from the bridge's; `None` when the timestamp has another unit.
    pub off: Option<ClockOff>,
    /// Description of the timestamp, for people.
    pub hint: &'static str,
}

impl fmt::Display for DeviceClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.off {
            Some(off) => write!(f, "{} ({off})", self.hint),
            None => f.write_str(self.hint),
        }
    }
}

impl DeviceClock {
    /// The clock that shows this time, ms since 1970, while the bridge's shows `now_ms`.
    pub fn of(timestamp_ms: i64, now_ms: u64) -> Self {
        let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let off_ms = timestamp_ms.saturating_sub(now_ms);
        let is_near = |ms: i64| ms.saturating_sub(now_ms).saturating_abs() <= OTHER_UNIT_MS;
        let unit = match timestamp_ms {
            seconds if is_near(seconds.saturating_mul(1_000)) => {
                Some("the timestamp looks like seconds instead of milliseconds")
            }
            us if is_near(us / 1_000) => Some("the timestamp looks like microseconds instead of milliseconds"),
            ns if is_near(ns / 1_000_000) => Some("the timestamp looks like nanoseconds instead of milliseconds"),
            _ => None,
        };
        if let Some(hint) = unit {
            return Self { off: None, hint };
        }
        let zones = off_ms.saturating_add(off_ms.signum() * (TIME_ZONE_MS / 2)) / TIME_ZONE_MS;
        let is_local = zones != 0
            && zones.saturating_abs() <= TIME_ZONES
            && off_ms.saturating_sub(zones.saturating_mul(TIME_ZONE_MS)).saturating_abs() <= RIGHT_MS;
        let hint = match off_ms {
            _ if timestamp_ms < SET_SINCE_MS => "the device's clock is not set",
            _ if is_local => "the timestamp looks like local time instead of UTC",
            0.. => "the device's clock is ahead",
            _ => "the device's clock is behind",
        };
        Self { off: Some(ClockOff { ms: off_ms }), hint }
    }

    /// Whether credentials with this timestamp are refused for it.
    pub fn is_stale(&self) -> bool {
        self.off.is_none_or(|off| off.ms.unsigned_abs() > TIMESTAMP_WINDOW_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_600_000_000_000;

    #[test]
    fn a_timestamp_tells_what_is_wrong_with_the_clock() {
        let clock = |timestamp| DeviceClock::of(timestamp, NOW);
        for (timestamp, off, hint) in [
            (1_600_000_000, None, "seconds instead of"),
            (1_600_000_400, None, "seconds instead of"),
            (1_600_000_000_000_000, None, "microseconds instead of"),
            (1_600_000_000_000_000_000, None, "nanoseconds instead of"),
            (1_599_999_600_000, Some("-400 s"), "clock is behind"),
            (1_600_000_400_999, Some("+400 s"), "clock is ahead"),
            (1_600_028_800_000, Some("+28800 s"), "local time"),
            (1_599_982_020_000, Some("-17980 s"), "local time"),
            (1_599_981_000_000, Some("-19000 s"), "clock is behind"),
            (5_000, Some("-1599999995 s"), "clock is not set"),
            (0, Some("-1600000000 s"), "clock is not set"),
            (1_900_000_000_000, Some("+300000000 s"), "clock is ahead"),
        ] {
            let found = clock(timestamp);
            assert_eq!(found.off.map(|off| off.to_string()).as_deref(), off, "{timestamp}");
            assert!(found.hint.contains(hint), "{timestamp}: {}", found.hint);
            assert!(found.is_stale(), "{timestamp}");
        }
        assert!(!clock(1_600_000_300_000).is_stale() && !clock(1_599_999_700_000).is_stale());
        for extreme in [i64::MIN, i64::MAX, -1] {
            assert!(clock(extreme).is_stale(), "{extreme}");
            DeviceClock::of(extreme, u64::MAX);
        }
    }
}
