//! Metrics with labels.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Index;

use prometheus_client::encoding::{EncodeMetric as _, MetricEncoder};
use prometheus_client::metrics::MetricType;

use super::description::Metric;
use super::label::Labels;
use super::number::{Number, sum};

/// A metric `N` for each value of a label `L`, or for each pair of values of two: `family[value]`, `family[(a, b)]`.
#[derive(Debug)]
pub struct Family<N, L> {
    numbers: Box<[N]>,
    labels: PhantomData<L>,
}

impl<N: Default, L: Labels> Default for Family<N, L> {
    fn default() -> Self {
        Self { numbers: L::combinations().map(|_| N::default()).collect(), labels: PhantomData }
    }
}

impl<N, L: Labels> Index<L> for Family<N, L> {
    type Output = N;

    fn index(&self, labels: L) -> &N {
        &self.numbers[labels.place()]
    }
}

impl<N: Number, L: Labels> Metric for Family<N, L> {
    const KIND: MetricType = N::KIND;

    fn labels() -> Vec<&'static str> {
        L::names()
    }

    fn encode(parts: &[&Self], mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for labels in L::combinations() {
            if let Some(sample) = N::sample(sum(parts.iter().map(|part| part[labels].cell()))) {
                let pairs: Vec<_> = L::names().into_iter().zip(labels.texts()).collect();
                sample.encode(encoder.encode_family(&pairs)?)?;
            }
        }
        Ok(())
    }
}
