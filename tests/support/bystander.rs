//! A device that has nothing to do with the trouble of others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::caller::quantile;
use super::{Registration, Wire, eventually};

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
    before: Duration,
    run: Run,
}

impl Bystander {
    /// Measures what a PUBACK takes before the trouble, and goes on reporting.
    pub(crate) fn start(mqtt: SocketAddr, device: &Registration) -> Self {
        let before = alone(mqtt, device);
        let run = Run::start(mqtt, device);
        Self { address: mqtt, device: device.clone(), before, run }
    }

    /// Ends, after the trouble.
    ///
    /// # Panics
    /// When its connection was closed or refused, a report got no PUBACK, or 99 of 100 took longer than twice what they take
    /// without the trouble, as the median over spans of so many: the machine has other work, too.
    #[expect(clippy::print_stdout, reason = "figures for whoever runs the test by hand")]
    pub(crate) fn finish(self) {
        self.run.wait_for(REPORTS);
        let mut times = self.run.finish();
        let all = quantile(&mut times.clone(), 0.99);
        let mut spans: Vec<Duration> = times.chunks_mut(REPORTS).map(|span| quantile(span, 0.99)).collect();
        let p99 = quantile(&mut spans, 0.5);
        let (before, after) = (self.before, alone(self.address, &self.device));
        let said = format!("p99 {all:?} of all, {p99:?} of a span; {before:?} before and {after:?} after");
        println!("bystander: {said}");
        assert!(p99 <= (2 * before.max(after)).max(SOON), "{said}");
    }
}

/// p99 of a PUBACK.
fn alone(mqtt: SocketAddr, device: &Registration) -> Duration {
    let run = Run::start(mqtt, device);
    run.wait_for(REPORTS);
    quantile(&mut run.finish(), 0.99)
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

    fn wait_for(&self, reports: usize) {
        let count = || self.count.load(Ordering::Relaxed);
        eventually("a bystander reports", PATIENCE, || (count() >= reports).then_some(()));
    }

    fn finish(self) -> Vec<Duration> {
        drop(self.end);
        self.thread.join().expect("each report has its PUBACK")
    }
}
