//! Distributions of durations.

use std::fmt;

use prometheus_client::encoding::MetricEncoder;
use prometheus_client::metrics::MetricType;

use super::description::Metric;
use super::number::{Cell, seconds, sum};

/// Upper bounds of the buckets, us.
const BOUNDS_US: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];

/// Durations in buckets from 0.5 ms to 10 s. One thread writes it.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Durations of each bucket, the last one above all bounds.
    counts: [Cell; BOUNDS_US.len() + 1],
    sum_us: Cell,
}

impl Histogram {
    /// Counts a duration in microseconds.
    pub fn observe_us(&self, us: u64) {
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        self.counts[bucket].add(1);
        self.sum_us.add(us);
    }

    /// Durations so far.
    pub fn count(&self) -> u64 {
        sum(self.counts.iter())
    }
}

impl Metric for Histogram {
    const KIND: MetricType = MetricType::Histogram;

    fn labels() -> Vec<&'static str> {
        Vec::new()
    }

    fn encode(parts: &[&Self], mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = BOUNDS_US.into_iter().map(seconds).chain([f64::INFINITY]);
        let count = |at: usize| sum(parts.iter().map(|part| &part.counts[at]));
        let buckets: Vec<(f64, u64)> = bounds.enumerate().map(|(at, bound)| (bound, count(at))).collect();
        let total = buckets.iter().map(|(_, count)| count).sum();
        let sum = seconds(sum(parts.iter().map(|part| &part.sum_us)));
        encoder.encode_histogram::<[(&str, &str); 0]>(sum, total, &buckets, None)
    }
}
