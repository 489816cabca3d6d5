//! Tracing, as it is configured.

use std::sync::Arc;

use anyhow::Context as _;

use super::queues::seed;
use super::settings;
use crate::config::Config;
use crate::protocol::trace::{SampleRatio, Tracer};
use crate::telemetry::metric::Metrics;
use crate::telemetry::span::{SpanExport, Spans};

/// Source of the tracers of the process; they are off where tracing is.
pub struct Tracing {
    spans: Option<Spans>,
    ratio: SampleRatio,
    metrics: Arc<Metrics>,
}

/// Checks the settings of the export; `None` where tracing is off.
pub fn prepare(config: &Config, replica_id: &str) -> anyhow::Result<Option<SpanExport>> {
    let settings = settings::spans(config, replica_id);
    settings.map(SpanExport::new).transpose().context("tracing.endpoint")
}

impl Tracing {
    /// Starts the export, where there is one.
    pub fn start(export: Option<SpanExport>, ratio: SampleRatio, metrics: &Arc<Metrics>) -> anyhow::Result<Self> {
        let spans = export.map(|export| export.start(metrics.spans())).transpose()?;
        Ok(Self { spans, ratio, metrics: Arc::clone(metrics) })
    }

    /// A tracer for one thread.
    pub fn tracer(&self) -> anyhow::Result<Tracer> {
        Ok(match &self.spans {
            Some(spans) => Tracer::new(self.ratio, seed()?, spans.sink(self.metrics.spans())),
            None => Tracer::off(),
        })
    }

    /// Exports what is left; two seconds at most.
    pub async fn finish(&self) {
        if let Some(spans) = &self.spans {
            spans.finish().await;
        }
    }
}
