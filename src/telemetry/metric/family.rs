//! What a metric is called and how it reads.

/// Kind of a metric, as Prometheus tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Grows only.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

impl Kind {
    /// As the exposition writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A metric with all its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// Its whole name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// Names of its labels; never `le`.
    pub labels: Vec<&'static str>,
    /// What it says, in one sentence.
    pub help: &'static str,
}

/// One line of the exposition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sample {
    /// Behind the name of the family.
    pub(super) suffix: &'static str,
    /// Names with values. Without names here, those of the family count.
    pub(super) labels: Vec<(&'static str, &'static str)>,
    /// The number.
    pub(super) value: String,
}

impl Sample {
    pub(super) fn plain(value: String) -> Self {
        Self { suffix: "", labels: Vec::new(), value }
    }

    /// The family gives the names of the labels.
    pub(super) fn labelled(values: Vec<&'static str>, value: String) -> Self {
        Self { suffix: "", labels: values.into_iter().map(|value| ("", value)).collect(), value }
    }
}

/// Anything that can be read as numbers that add up over several writers.
pub(super) trait Metric: Default {
    /// Its kind.
    const KIND: Kind;

    /// Names of its labels.
    fn labels() -> Vec<&'static str>;

    /// Appends its numbers, always as many.
    fn read(&self, slots: &mut Vec<u64>);

    /// Its lines, from numbers added up (modulo 2^64).
    fn samples(slots: &[u64]) -> Vec<Sample>;
}
