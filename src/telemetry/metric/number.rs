//! Counters and gauges that one thread writes and others read.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::description::Metric;

/// A number that one thread changes by plain loads and stores: 0.7 ns, no lock. Written by a second thread at the same
/// time it would lose changes, not break.
#[derive(Debug, Default)]
pub(super) struct Cell(AtomicU64);

impl Cell {
    pub(super) fn add(&self, more: u64) {
        self.set(self.get().wrapping_add(more));
    }

    pub(super) fn set(&self, number: u64) {
        self.0.store(number, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The sum modulo 2^64, for what one thread adds and another one takes away.
pub(super) fn sum<'c>(cells: impl Iterator<Item = &'c Cell>) -> u64 {
    cells.fold(0, |sum, cell| sum.wrapping_add(cell.get()))
}

/// Microseconds as seconds.
pub(super) fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// A metric of one number.
pub(super) trait Number: Default {
    /// The type.
    const KIND: MetricType;

    /// The number.
    fn cell(&self) -> &Cell;

    /// The sample of a sum; `None`: there is none.
    fn sample(sum: u64) -> Option<impl EncodeMetric>;
}

impl<N: Number> Metric for N {
    const KIND: MetricType = <N as Number>::KIND;

    fn labels() -> Vec<&'static str> {
        Vec::new()
    }

    fn encode(parts: &[&Self], encoder: MetricEncoder<'_>) -> fmt::Result {
        let sample = N::sample(sum(parts.iter().map(|part| part.cell())));
        sample.map_or(Ok(()), |sample| sample.encode(encoder))
    }
}

/// A number that only grows. One thread writes it.
#[derive(Debug, Default)]
pub struct Counter(Cell);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.0.add(1);
    }

    /// Adds a number.
    pub fn add(&self, more: u64) {
        self.0.add(more);
    }

    /// Takes over a number that is counted elsewhere.
    pub fn set(&self, number: u64) {
        self.0.set(number);
    }

    /// The number at this moment.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

impl Number for Counter {
    const KIND: MetricType = MetricType::Counter;

    fn cell(&self) -> &Cell {
        &self.0
    }

    fn sample(sum: u64) -> Option<impl EncodeMetric> {
        Some(ConstCounter::new(sum))
    }
}

/// Time that only grows, in seconds. One thread writes it.
#[derive(Debug, Default)]
pub struct Seconds(Cell);

impl Seconds {
    /// Takes over a time in microseconds that is added up elsewhere.
    pub fn set_us(&self, us: u64) {
        self.0.set(us);
    }
}

impl Number for Seconds {
    const KIND: MetricType = MetricType::Counter;

    fn cell(&self) -> &Cell {
        &self.0
    }

    fn sample(sum: u64) -> Option<impl EncodeMetric> {
        Some(ConstCounter::new(seconds(sum)))
    }
}

/// A number that goes up and down. One thread writes it.
#[derive(Debug, Default)]
pub struct Gauge(Cell);

impl Gauge {
    /// Adds one.
    pub fn inc(&self) {
        self.0.add(1);
    }

    /// Takes one away.
    pub fn dec(&self) {
        self.0.add(u64::MAX);
    }

    /// Puts a number in place.
    pub fn set(&self, number: u64) {
        self.0.set(number);
    }

    /// The number at this moment.
    pub fn get(&self) -> i64 {
        self.0.get().cast_signed()
    }
}

impl Number for Gauge {
    const KIND: MetricType = MetricType::Gauge;

    fn cell(&self) -> &Cell {
        &self.0
    }

    fn sample(sum: u64) -> Option<impl EncodeMetric> {
        Some(ConstGauge::new(sum.cast_signed()))
    }
}

/// A moment in seconds since 1970; there is no sample until it is set. One thread writes it.
#[derive(Debug, Default)]
pub struct Moment(Cell);

impl Moment {
    /// Puts a moment in place.
    pub fn set(&self, unix_secs: u64) {
        self.0.set(unix_secs);
    }

    /// The moment; `None` until it is set.
    pub fn get(&self) -> Option<u64> {
        Some(self.0.get()).filter(|unix_secs| *unix_secs > 0)
    }
}

impl Number for Moment {
    const KIND: MetricType = MetricType::Gauge;

    fn cell(&self) -> &Cell {
        &self.0
    }

    fn sample(sum: u64) -> Option<impl EncodeMetric> {
        (sum > 0).then(|| ConstGauge::new(sum))
    }
}

/// A number that goes up and down, of something that may not be used; there is no sample until it is set. One thread writes
/// it.
#[derive(Debug, Default)]
pub struct UsedGauge(Cell);

impl UsedGauge {
    /// Puts a number in place.
    pub fn set(&self, number: u64) {
        self.0.set(number.saturating_add(1));
    }

    /// The number; `None` until it is set.
    pub fn get(&self) -> Option<u64> {
        self.0.get().checked_sub(1)
    }
}

impl Number for UsedGauge {
    const KIND: MetricType = MetricType::Gauge;

    fn cell(&self) -> &Cell {
        &self.0
    }

    fn sample(sum: u64) -> Option<impl EncodeMetric> {
        sum.checked_sub(1).map(ConstGauge::new)
    }
}
