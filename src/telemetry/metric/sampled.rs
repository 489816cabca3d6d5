//! Metrics whose numbers are looked up when the page is read.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::TypedMetric;

use super::description::Description;

/// A metric with the numbers of this moment.
pub(super) struct Sampled {
    /// Its description, with one label or none.
    pub description: Description,
    /// Value of the label, and number.
    series: Vec<(String, Box<dyn EncodeMetric>)>,
}

impl Sampled {
    /// A metric without labels.
    pub(super) fn one<M: EncodeMetric + TypedMetric + 'static>(
        name: &'static str,
        help: &'static str,
        number: M,
    ) -> Self {
        let description = Description { name, kind: M::TYPE, labels: Vec::new(), help };
        Self { description, series: vec![(String::new(), Box::new(number))] }
    }

    /// A metric with a series for each of these values of its label.
    pub(super) fn by<M: EncodeMetric + TypedMetric + 'static>(
        label: &'static str,
        name: &'static str,
        help: &'static str,
        series: impl Iterator<Item = (String, M)>,
    ) -> Self {
        let description = Description { name, kind: M::TYPE, labels: vec![label], help };
        Self { description, series: series.map(|(value, number)| (value, Box::new(number) as _)).collect() }
    }

    /// Writes HELP, TYPE and the samples.
    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = self.description.encode(encoder)?;
        for (value, number) in &self.series {
            let labels: Vec<_> = self.description.labels.iter().map(|label| (*label, value.as_str())).collect();
            number.encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
