//! One peer under one load.

use std::fmt;
use std::path::Path;
use std::thread;

use serde::Serialize;

use crate::cores::Cores;
use crate::deployment::Deployment;
use crate::devices::{Devices, Pace};
use crate::load::Load;
use crate::peer::{Peer, Queues};

/// Quantities that are measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Figures {
    /// Processor time of the server, us per acknowledged message.
    pub(crate) server_us: f64,
    /// Processor time of the queue, us per acknowledged message; 0 without a queue.
    pub(crate) queue_us: f64,
    /// Processor time of the simulated devices, us per acknowledged message.
    pub(crate) devices_us: f64,
    /// Acknowledged messages per second.
    pub(crate) rate: f64,
    /// From a message to its acknowledgement.
    pub(crate) latency: Latency,
    /// The same at half of that rate, where it was asked for.
    pub(crate) half: Option<Half>,
}

/// Quantities at half of the rate that a server took, in an open loop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Half {
    /// Processor time of the server, us per acknowledged message.
    pub(crate) server_us: f64,
    /// Acknowledged messages per second.
    pub(crate) rate: f64,
    /// From a message to its acknowledgement.
    pub(crate) latency: Latency,
}

/// Time until acknowledgements came, ms: that many per cent took at most so long.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server_us, queue_us, devices_us, rate, latency, half } = self;
        let Latency { p50, p99, .. } = latency;
        write!(f, "{server_us:.2} us, {:.1} thousand/s, p50 {p50:.1} ms, p99 {p99:.1} ms", rate / 1e3)?;
        if let Some(Half { server_us, rate, latency: Latency { p50, p99, .. } }) = half {
            write!(f, "; at half {server_us:.2} us, {:.1} thousand/s, p50 {p50:.2} ms, p99 {p99:.2} ms", rate / 1e3)?;
        }
        write!(f, " (devices {devices_us:.1} us, queue {queue_us:.1} us)")
    }
}

/// The build that this benchmark belongs to.
pub(crate) fn own_program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_jetlinks-bridge"))
}

/// Measures a peer: starts it, loads it, `with_half` of the rate that it took besides, and ends it.
pub(crate) fn measure(
    peer: Peer,
    load: Load,
    deployment: Deployment,
    seconds: u64,
    with_half: bool,
    queues: &mut Queues,
) -> Result<Figures, String> {
    let server = peer.start(own_program(), load, deployment, queues, Cores::Any)?;
    let measure = |pace| Devices::start(&server, load, pace, seconds, Cores::Any).measure(&server, seconds);
    let mut figures = measure(Pace::Window)?;
    if with_half {
        let Figures { server_us, rate, latency, .. } = measure(Pace::PerSecond(figures.rate / 2.0))?;
        figures.half = Some(Half { server_us, rate, latency });
    }
    Ok(figures)
}

/// Measures two peers, each of a build, at the same time, each on its cores: whatever slows the machine slows both.
pub(crate) fn measure_both(
    peers: [(Peer, &Path); 2],
    load: Load,
    cores: [Cores; 2],
    seconds: u64,
    queues: &mut Queues,
) -> Result<[Figures; 2], String> {
    let [first, second] = peers;
    let mut start =
        |(peer, program): (Peer, &Path), cores| peer.start(program, load, Deployment::default(), queues, cores);
    let servers = [start(first, cores[0])?, start(second, cores[1])?];
    thread::scope(|scope| {
        let measured = [0, 1].map(|place| {
            let server = &servers[place];
            let devices = Devices::start(server, load, Pace::Window, seconds, cores[place]);
            scope.spawn(move || devices.measure(server, seconds))
        });
        let [first, second] = measured.map(|thread| thread.join().map_err(|_| "a measurement panicked".to_owned())?);
        Ok([first?, second?])
    })
}
