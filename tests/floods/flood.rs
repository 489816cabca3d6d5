//! How floods are made and told.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::bridge::by_build;
use crate::support::bystander::Figures;
use crate::support::caller::quantile;
use crate::support::{Bystander, Registration};

/// Within this time a device of another network is served, whatever strangers do.
pub(crate) const SERVED: Duration = Duration::from_secs(1);

/// Of some times that devices were served in the one that counts: from an optimised bridge the longest; from a debug build,
/// which is tested on machines that are busy with something else, the median. Whom strangers keep waiting they keep waiting
/// each time.
pub(crate) fn counting(times: impl IntoIterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.into_iter().collect();
    quantile(&mut times, by_build(0.5, 1.0))
}

/// 99 of 100 PUBACKs of a device come within this time whatever one other device sends, from an optimised bridge on a machine
/// that has nothing else to do; on another one within twice what they take without the flood.
const SOON: Duration = Duration::from_millis(10);

/// The address of the proxy whose headers tests send.
pub(crate) const PROXY: u8 = 9;

const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at the clock, so that the flood does not take the processor away from the bridge while it waits.
const PAUSE: Duration = Duration::from_micros(200);

/// Upper bound of the work between two reads of the clock.
const AT_ONCE: usize = 128;

/// Something that is done again and again until this is dropped.
pub(crate) struct Flood {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    begin: Instant,
    count: Arc<AtomicUsize>,
}

impl Flood {
    /// Has `next` done so many times a second.
    pub(crate) fn start(per_second: f64, mut next: impl FnMut(usize) + Send + 'static) -> Self {
        let (end, is_ended) = mpsc::channel::<()>();
        let (begin, count) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&count);
        let thread = thread::spawn(move || {
            let mut number = 0;
            loop {
                let due = (begin.elapsed().as_secs_f64() * per_second) as usize;
                let pause = if due > number { Duration::ZERO } else { PAUSE };
                if is_ended.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                for _ in 0..due.saturating_sub(number).min(AT_ONCE) {
                    next(number);
                    number += 1;
                }
                counter.store(number, Ordering::Relaxed);
            }
        });
        Self { end: Some(end), thread: Some(thread), begin, count }
    }

    /// Has `next` done as often as it can be.
    pub(crate) fn unbounded(next: impl FnMut(usize) + Send + 'static) -> Self {
        Self::start(1e9, next)
    }

    /// How often it was done.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// How often a second it was done so far.
    pub(crate) fn rate(&self) -> f64 {
        self.count() as f64 / self.begin.elapsed().as_secs_f64()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A device of nobody's network that reports beside a flood.
pub(crate) struct Beside(Bystander);

impl Beside {
    /// Measures the device without the flood, and goes on reporting.
    pub(crate) fn start(mqtt: SocketAddr, device: &Registration) -> Self {
        Self(Bystander::start(mqtt, device))
    }

    /// Ends, while the flood still goes on, and prints the line of it: `rate` is how strong it is, `served` the time that
    /// [`counting`] gives of devices that asked for something anew. What a PUBACK took before and during the flood.
    #[expect(clippy::print_stdout, reason = "the line is the result")]
    pub(crate) fn report(self, name: &str, rate: impl Fn() -> String, served: Option<Duration>) -> [Figures; 2] {
        let (before, during) = self.0.figures(by_build(20, 500));
        let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1000.0);
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!(
            "flood: {name}: {}; PUBACK p50 {} p99 {} worst {} ms (calm {} {}); served within {}; load {}",
            rate(),
            ms(during.p50),
            ms(during.p99),
            ms(during.worst),
            ms(before.p50),
            ms(before.p99),
            served.map_or("-".to_owned(), |served| format!("{} ms", ms(served))),
            load.split(' ').next().unwrap_or_default(),
        );
        [before, during]
    }

    /// As [`Beside::report`], for what strangers do.
    ///
    /// # Panics
    /// When a device was not served in time.
    pub(crate) fn bear_strangers(self, name: &str, rate: impl Fn() -> String, served: Option<Duration>) {
        let [_, during] = self.report(name, rate, served);
        assert!(served.is_none_or(|served| served < SERVED), "{name}: served within {served:?}");
        assert!(during.worst < by_build(PATIENCE, SERVED), "{name}: {during:?}");
    }

    /// As [`Beside::report`], for what one device or caller does that has proved who it is. What is wrong, where the other
    /// device had to wait for its PUBACKs: whoever calls has further rows to print.
    #[must_use]
    pub(crate) fn bear_one(self, name: &str, rate: impl Fn() -> String) -> Option<String> {
        let [before, during] = self.report(name, rate, None);
        let bound = by_build(PATIENCE, SOON.max(2 * before.p99));
        (during.p99 > bound).then(|| format!("{name}: {during:?}, before {before:?}"))
    }
}

/// A rate as it is told.
pub(crate) fn per_second(rate: impl Fn() -> f64, what: &str) -> impl Fn() -> String {
    move || format!("{:.0} {what}/s", rate())
}

/// A connection from 127.0.0.`host`.
pub(crate) fn dial_from(host: u8, address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, host], 0)).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A connection of the client through the proxy, which says whose it is.
pub(crate) fn dial_through_proxy(client: &str, address: SocketAddr) -> TcpStream {
    let mut stream = dial_from(PROXY, address);
    write!(stream, "PROXY TCP4 {client} 192.0.2.100 5000 1883\r\n").unwrap();
    stream
}

/// The setting that has the bridge believe the proxy.
pub(crate) fn proxies() -> String {
    format!(r#"["127.0.0.{PROXY}"]"#)
}
