//! Distributions of durations.

use std::sync::atomic::{AtomicU64, Ordering};

use super::family::{Kind, Metric, Sample};

/// Upper bounds of the buckets in microseconds, and in seconds as they are shown.
const BUCKETS: [(u64, &str); 14] = [
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (5_000_000, "5"),
    (10_000_000, "10"),
];

/// Durations in buckets from 0.5 ms to 10 s. One thread writes.
#[derive(Debug, Default)]
pub struct Histogram {
    /// How many fell into each bucket, the last above all bounds.
    counts: [AtomicU64; BUCKETS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Takes note of a duration in microseconds.
    pub fn observe_us(&self, us: u64) {
        let bucket = BUCKETS.partition_point(|(bound, _)| *bound < us);
        add(&self.counts[bucket], 1);
        add(&self.sum_us, us);
    }

    /// How many durations were noted.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

fn add(cell: &AtomicU64, more: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

impl Metric for Histogram {
    const KIND: Kind = Kind::Histogram;

    fn labels() -> Vec<&'static str> {
        Vec::new()
    }

    fn read(&self, slots: &mut Vec<u64>) {
        slots.extend(self.counts.iter().chain([&self.sum_us]).map(|cell| cell.load(Ordering::Relaxed)));
    }

    fn samples(slots: &[u64]) -> Vec<Sample> {
        let (counts, sum) = slots.split_at(BUCKETS.len() + 1);
        let bounds = BUCKETS.iter().map(|(_, shown)| *shown).chain(["+Inf"]);
        let mut total = 0;
        let mut samples: Vec<Sample> = bounds
            .zip(counts)
            .map(|(bound, count)| {
                total += count;
                Sample { suffix: "_bucket", labels: vec![("le", bound)], value: total.to_string() }
            })
            .collect();
        let seconds = format!("{}.{:06}", sum[0] / 1_000_000, sum[0] % 1_000_000);
        samples.push(Sample { suffix: "_sum", labels: Vec::new(), value: seconds });
        samples.push(Sample { suffix: "_count", labels: Vec::new(), value: total.to_string() });
        samples
    }
}
