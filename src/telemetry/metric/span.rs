//! What is counted of spans.

use super::family::{Family, Metric};
use super::label::{Label, label};
use super::render::Page;
use super::scalar::CounterBy;
use super::worker::metrics;

label! {
    /// What became of a span.
    "outcome" SpanOutcome {
        /// The collector has it.
        Exported = "exported",
        /// More were made than could wait.
        Dropped = "dropped",
        /// The collector was away for too long, or refused it.
        Failed = "failed",
    }
}

metrics! {
    /// The numbers of one thread that makes spans, or exports them; that thread alone writes them.
    SpanMetrics {
        spans: CounterBy<SpanOutcome> = "spans_total",
            "Spans of sampled traces, by outcome.";
    }
}
