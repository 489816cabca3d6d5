//! A device that has nothing to do with the trouble of others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::caller::quantile;
use super::{Registration, Stopwatch, Wire, eventually};

/// Between two reports.
const PACE: Duration = Duration::from_millis(10);

/// Reports that are measured at least.
const REPORTS: usize = 100;

/// A PUBACK within this time is soon enough whatever it took before.
const SOON: Duration = Duration::from_millis(50);

const PATIENCE: Duration = Duration::from_secs(60);

/// Reports at a steady pace, at QoS 1 and each after the PUBACK of the one before.
pub(crate) struct Bystander {
    address: SocketAddr,
    device: Registration,
    before: Figures,
    watch: Stopwatch,
    run: Run,
}

/// Latency of a PUBACK.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    /// Median.
    pub(crate) p50: Duration,
    /// 99 of 100 took no longer.
    pub(crate) p99: Duration,
    /// The longest.
    pub(crate) worst: Duration,
}

impl Figures {
    fn of(times: &mut [Duration]) -> Self {
        let [p50, p99, worst] = [0.5, 0.99, 1.0].map(|share| quantile(times, share));
        Self { p50, p99, worst }
    }
}

impl Bystander {
    /// Measures what a PUBACK takes before the trouble, and goes on reporting.
    pub(crate) fn start(mqtt: SocketAddr, device: &Registration) -> Self {
        let before = alone(mqtt, device);
        let (watch, run) = (Stopwatch::start(), Run::start(mqtt, device));
        Self { address: mqtt, device: device.clone(), before, watch, run }
    }

    /// Latency of PUBACKs before the flood, and during it over at least so many reports.
    pub(crate) fn figures(self, reports: usize) -> (Figures, Figures) {
        self.run.wait_for(self.run.reported() + reports);
        (self.before, Figures::of(&mut self.run.finish()))
    }

    /// Ends, after the trouble.
    ///
    /// # Panics
    /// When its connection was closed or refused, a report got no PUBACK, or 99 of 100 took longer than twice what they take
    /// without the trouble, as the median over spans of so many and by what the machine gave: it has other work, too.
    #[expect(clippy::print_stdout, reason = "figures for whoever runs the test by hand")]
    pub(crate) fn finish(self) {
        self.run.wait_for(REPORTS);
        let mut times = self.run.finish();
        let all = quantile(&mut times.clone(), 0.99);
        let mut spans: Vec<Duration> = times.chunks_mut(REPORTS).map(|span| quantile(span, 0.99)).collect();
        let p99 = self.watch.counted(quantile(&mut spans, 0.5));
        let (before, after) = (self.before.p99, alone(self.address, &self.device).p99);
        let said = format!("p99 {all:?} of all, {p99:?} of a span; {before:?} before and {after:?} after");
        println!("bystander: {said}");
        assert!(p99 <= (2 * before.max(after)).max(SOON), "{said}");
    }
}

/// Latency of PUBACKs.
fn alone(mqtt: SocketAddr, device: &Registration) -> Figures {
    let run = Run::start(mqtt, device);
    run.wait_for(REPORTS);
    Figures::of(&mut run.finish())
}

struct Run {
    thread: JoinHandle<Vec<Duration>>,
    count: Arc<AtomicUsize>,
    end: Sender<()>,
}

impl Run {
    fn start(mqtt: SocketAddr, device: &Registration) -> Self {
        let (end, is_ended) = mpsc::channel::<()>();
        let (topic, count) = (device.topic("properties/report"), Arc::new(AtomicUsize::new(0)));
        let (counter, mut wire) = (Arc::clone(&count), Wire::connect(mqtt, device));
        let thread = thread::spawn(move || {
            let mut times = Vec::new();
            while is_ended.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                let begin = Instant::now();
                wire.publish_acknowledged(&topic, r#"{"properties":{"calm":1}}"#, 1);
                times.push(begin.elapsed());
                counter.fetch_add(1, Ordering::Relaxed);
            }
            times
        });
        Self { thread, count, end }
    }

    fn reported(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn wait_for(&self, reports: usize) {
        eventually("a bystander reports", PATIENCE, || (self.reported() >= reports).then_some(()));
    }

    fn finish(self) -> Vec<Duration> {
        drop(self.end);
        self.thread.join().expect("each report has its PUBACK")
    }
}
