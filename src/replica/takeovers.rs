//! Limits takeovers: refuses devices whose sessions replace one another without end, on whichever replicas.

use super::recent::{Expiring, Recent};
use crate::protocol::id::DeviceId;

/// Takeovers of one device within [`WINDOW_US`]; one more is refused.
const TAKEOVERS_MAX: usize = 5;

/// Time for which a takeover counts, us. All times here are of a monotonic clock: a system clock that is set must not
/// shut a device out.
const WINDOW_US: u64 = 60_000_000;

/// After a refusal everything is refused for this long, us.
const PENALTY_US: u64 = 30_000_000;

/// The recent takeovers of each device, on all replicas: every replica counts its own and those that it hears of from
/// others, so all come to the same number. 8 MiB at most, for [`DEVICES_MAX`](super::recent::DEVICES_MAX) devices.
#[derive(Debug, Default)]
pub struct Takeovers {
    devices: Recent<History>,
}

#[derive(Debug, Default)]
struct History {
    /// The takeovers that count: until when, and the session that took over. [`TAKEOVERS_MAX`] at most.
    counted: Vec<(u64, Box<str>)>,
    refused_until_us: u64,
    /// The session of the device on another replica, as far as this one has heard.
    elsewhere: Option<Box<str>>,
}

/// Whether a new session of a device may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Admitted,
    /// It would be one takeover too many; from now on the device is refused for [`PENALTY_US`], of which other replicas must
    /// be told.
    RefusedFirst,
    /// It comes within [`PENALTY_US`] of such a refusal.
    Refused,
}

impl Takeovers {
    /// Counts that `session` took the device over, `age_us` ago. One session counts once, although two sessions may give way to
    /// it, or another replica may tell of it twice.
    pub fn note_takeover(&mut self, device: &DeviceId, session: &str, age_us: u64, now_us: u64) {
        if age_us >= WINDOW_US {
            return;
        }
        let Some(history) = self.devices.entry(device, now_us) else { return };
        history.forget_before(now_us);
        if history.counted.len() < TAKEOVERS_MAX && history.counted.iter().all(|(_, other)| **other != *session) {
            history.counted.push((now_us + WINDOW_US - age_us, session.into()));
        }
    }

    /// Notes that another replica holds a session of the device. Without a recent takeover of the device this changes nothing.
    pub fn note_elsewhere(&mut self, device: &str, session: &str) {
        if let Some(history) = self.devices.get_mut(device) {
            history.elsewhere = Some(session.into());
        }
    }

    /// Notes that the session of another replica has ended.
    pub fn note_ended(&mut self, device: &str, session: &str) {
        if let Some(history) = self.devices.get_mut(device)
            && history.elsewhere.as_deref() == Some(session)
        {
            history.elsewhere = None;
        }
    }

    /// Notes that another replica has refused the device for the first time, `age_us` ago.
    pub fn note_refused(&mut self, device: &DeviceId, age_us: u64, now_us: u64) {
        if age_us < PENALTY_US
            && let Some(history) = self.devices.entry(device, now_us)
        {
            history.refused_until_us = history.refused_until_us.max(now_us + PENALTY_US - age_us);
        }
    }

    /// Whether a new session of the device may begin here; `holds` says whether this replica has one already.
    pub fn admit(&mut self, device: &DeviceId, holds: bool, now_us: u64) -> Admission {
        let Some(history) = self.devices.get_mut(device.as_str()) else { return Admission::Admitted };
        if now_us < history.refused_until_us {
            return Admission::Refused;
        }
        history.forget_before(now_us);
        let takes_over = holds || history.elsewhere.is_some();
        if takes_over && history.counted.len() == TAKEOVERS_MAX {
            history.refused_until_us = now_us + PENALTY_US;
            return Admission::RefusedFirst;
        }
        history.elsewhere = None;
        Admission::Admitted
    }

    /// Whether the device has a takeover or a refusal that still counts: then other replicas must be told when its session
    /// ends.
    pub fn remembers(&self, device: &str, now_us: u64) -> bool {
        self.devices.get(device).is_some_and(|history| !history.is_expired(now_us))
    }
}

impl History {
    fn forget_before(&mut self, now_us: u64) {
        self.counted.retain(|&(until_us, _)| until_us > now_us);
    }
}

impl Expiring for History {
    fn is_expired(&self, now_us: u64) -> bool {
        now_us >= self.refused_until_us && self.counted.iter().all(|&(until_us, _)| until_us <= now_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000;

    fn device() -> DeviceId {
        DeviceId::new("device1").expect("a valid id")
    }

    fn take_over(takeovers: &mut Takeovers, session: u64, now_us: u64) -> Admission {
        let admission = takeovers.admit(&device(), true, now_us);
        if admission == Admission::Admitted {
            takeovers.note_takeover(&device(), &session.to_string(), 0, now_us);
        }
        admission
    }

    #[test]
    fn the_sixth_takeover_within_a_minute_and_all_in_the_next_30_s_are_refused() {
        let mut takeovers = Takeovers::default();
        assert!((0..5).all(|n| take_over(&mut takeovers, n, n * 10 * S) == Admission::Admitted));
        assert_eq!(take_over(&mut takeovers, 5, 50 * S), Admission::RefusedFirst);
        assert_eq!(take_over(&mut takeovers, 6, 80 * S - 1), Admission::Refused);
        assert_eq!(take_over(&mut takeovers, 7, 80 * S), Admission::Admitted);
    }

    #[test]
    fn takeovers_far_apart_are_never_refused() {
        let mut takeovers = Takeovers::default();
        assert!((0..100).all(|n| take_over(&mut takeovers, n, n * 12 * S) == Admission::Admitted));
    }

    /// One thing that a replica without a session of the device does or hears, and what a CONNECT there gets.
    enum Step {
        Taken(&'static str),
        Elsewhere(&'static str),
        Ended(&'static str),
        Refused,
        Connect(Admission),
    }

    #[test]
    fn takeovers_between_other_replicas_count_wherever_the_device_connects_next() {
        use Step::{Connect, Elsewhere, Ended, Refused, Taken};
        let five = || ["s1", "s2", "s3", "s4", "s5"].map(Taken);
        let after = |steps: Vec<Step>| five().into_iter().chain(steps).collect::<Vec<_>>();
        let table = [
            ("the sixth", after(vec![Elsewhere("s5"), Connect(Admission::RefusedFirst), Connect(Admission::Refused)])),
            ("nobody is left to be taken over", after(vec![Connect(Admission::Admitted)])),
            ("the last one has ended", after(vec![Elsewhere("s5"), Ended("s5"), Connect(Admission::Admitted)])),
            ("an older one has ended", after(vec![Elsewhere("s5"), Ended("s4"), Connect(Admission::RefusedFirst)])),
            ("another replica refused it", vec![Refused, Connect(Admission::Refused)]),
            (
                "two give way to one session, which is one takeover",
                vec![
                    Taken("s1"),
                    Taken("s2"),
                    Taken("s3"),
                    Taken("s4"),
                    Taken("s4"),
                    Elsewhere("s4"),
                    Connect(Admission::Admitted),
                ],
            ),
            (
                "a device that was never taken over is not remembered",
                vec![Elsewhere("s1"), Connect(Admission::Admitted)],
            ),
        ];
        for (case, steps) in table {
            let mut takeovers = Takeovers::default();
            for step in steps {
                match step {
                    Taken(session) => takeovers.note_takeover(&device(), session, 0, 0),
                    Elsewhere(session) => takeovers.note_elsewhere("device1", session),
                    Ended(session) => takeovers.note_ended("device1", session),
                    Refused => takeovers.note_refused(&device(), 0, 0),
                    Connect(expected) => assert_eq!(takeovers.admit(&device(), false, 1), expected, "{case}"),
                }
            }
        }
    }

    #[test]
    fn a_device_is_known_as_long_as_its_takeovers_count() {
        let mut takeovers = Takeovers::default();
        assert!(!takeovers.remembers("device1", 0));
        takeovers.note_takeover(&device(), "s1", 0, 0);
        assert!(takeovers.remembers("device1", WINDOW_US - 1));
        assert!(!takeovers.remembers("device1", WINDOW_US));
        takeovers.note_refused(&device(), 0, WINDOW_US);
        assert!(takeovers.remembers("device1", WINDOW_US + PENALTY_US - 1));
    }

    #[test]
    fn what_is_heard_late_or_again_counts_for_no_longer() {
        let mut takeovers = Takeovers::default();
        for session in ["s1", "s2", "s3", "s4", "s5"] {
            takeovers.note_takeover(&device(), session, 50 * S, 5 * S);
        }
        assert_eq!(takeovers.admit(&device(), true, 15 * S), Admission::Admitted, "60 s have passed since");
        for _ in 0..2 {
            takeovers.note_takeover(&device(), "s6", WINDOW_US, 20 * S);
            takeovers.note_refused(&device(), PENALTY_US, 20 * S);
            assert!(!takeovers.remembers("device1", 20 * S), "all of it is over");
        }
        takeovers.note_refused(&device(), 0, 20 * S);
        takeovers.note_refused(&device(), 20 * S, 40 * S);
        assert_eq!(takeovers.admit(&device(), false, 50 * S - 1), Admission::Refused);
        assert_eq!(takeovers.admit(&device(), false, 50 * S), Admission::Admitted);
    }
}
