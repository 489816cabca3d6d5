//! A tracer that remembers, for tests.

use std::sync::{Arc, Mutex};

use super::{SampleRatio, Span, SpanSink, Tracer};

/// Spans that have ended.
pub(crate) type Ended = Arc<Mutex<Vec<Span>>>;

struct FakeSink(Ended);

impl SpanSink for FakeSink {
    fn take(&mut self, span: Span) {
        self.0.lock().expect("one thread").push(span);
    }
}

/// A tracer that samples that share of the traces which begin there. Those of different shares give different names.
pub(crate) fn tracer(share: f64) -> (Tracer, Ended) {
    let ended = Ended::default();
    let ratio = SampleRatio::new(share).expect("a share");
    (Tracer::new(ratio, u128::from(share.to_bits()), Box::new(FakeSink(Arc::clone(&ended)))), ended)
}
