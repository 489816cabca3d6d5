//! Time of a promise, on a machine that does other things as well.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// A tick of `/proc/stat`: `USER_HZ` is 100 on every machine that Linux runs on today.
const TICK: Duration = Duration::from_millis(10);

/// What of a time counts in which tasks waited for a processor all the time.
pub(crate) const BUSY_SHARE: f64 = 0.25;

/// Measures time against a promise, and discounts what the machine did not give.
///
/// On an idle machine it is a clock. Time in which some task waited for a processor (`/proc/pressure/cpu`), or the host
/// took the processors away (`steal` in `/proc/stat`), counts a quarter, so a promise of 5 s may take at most 20 s on the
/// wall: less than any patience, and no reason to promise less.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch {
    begin: Instant,
    waited: Option<Duration>,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self { begin: Instant::now(), waited: time_without_processor() }
    }

    /// The time since the start that counts.
    pub(crate) fn elapsed(&self) -> Duration {
        self.counted(self.begin.elapsed())
    }

    /// What counts of a time that lies between the start and now.
    pub(crate) fn counted(&self, time: Duration) -> Duration {
        let elapsed = self.begin.elapsed();
        let waited = match (self.waited, time_without_processor()) {
            (Some(before), Some(now)) => now.saturating_sub(before).min(elapsed),
            // A kernel that does not tell is taken for a busy one.
            _ => elapsed,
        };
        time.mul_f64(counted_share(elapsed, waited))
    }
}

/// What part of a time counts of which that much was waited.
pub(crate) fn counted_share(elapsed: Duration, waited: Duration) -> f64 {
    if elapsed.is_zero() {
        return 1.0;
    }
    1.0 - (1.0 - BUSY_SHARE) * waited.as_secs_f64() / elapsed.as_secs_f64()
}

/// Time since the start of the machine in which tasks waited for a processor or the host had taken it.
fn time_without_processor() -> Option<Duration> {
    let pressure = fs::read_to_string("/proc/pressure/cpu").ok()?;
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let processors = u32::try_from(thread::available_parallelism().ok()?.get()).ok()?;
    Some(waiting(&pressure)? + stolen(&stat)? / processors)
}

/// `total` of the line `some`, in microseconds.
pub(crate) fn waiting(pressure: &str) -> Option<Duration> {
    let (_, total) = pressure.lines().find(|line| line.starts_with("some "))?.rsplit_once("total=")?;
    Some(Duration::from_micros(total.parse().ok()?))
}

/// The eighth number of the line `cpu`, in ticks of all processors.
pub(crate) fn stolen(stat: &str) -> Option<Duration> {
    let ticks: u32 = stat.lines().find(|line| line.starts_with("cpu "))?.split_whitespace().nth(8)?.parse().ok()?;
    Some(TICK * ticks)
}
