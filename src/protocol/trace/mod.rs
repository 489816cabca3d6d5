//! Distributed tracing: the trace context of each message, and the spans that the bridge adds to its trace.
//!
//! 1. [`Tracer::begin`] gives a message or a command its [`TraceContext`]: a trace of its own, or a part of the caller's.
//!    With tracing off there is none, and nothing below happens.
//! 2. The context travels as `traceparent`: an attribute of the envelope, and a header of its own beside it.
//! 3. Where the context says sampled, a [`Span`] is kept beside the record or the command, and [`Tracer::end`] passes it to
//!    the sink once the queue has the message, or the caller its outcome.

mod context;
mod span;

use std::fmt;

pub use context::{SpanId, TRACEPARENT_BYTES, TraceContext, TraceId, Traceparent};
pub use span::{Operation, Span};

use crate::protocol::random::Random;

/// A share of traces, from none (the default) to all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SampleRatio(u64);

impl SampleRatio {
    /// All traces: ids have 63 bits that decide.
    const ALL: u64 = 1 << 63;

    /// The share; `None` outside 0 to 1.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 2^63, and whole enough")]
    #[expect(clippy::cast_precision_loss, reason = "2^63 is exact")]
    pub fn new(share: f64) -> Option<Self> {
        (0.0..=1.0).contains(&share).then_some(Self((share * Self::ALL as f64) as u64))
    }

    /// Whether a trace is among them, by the second half of its id. Everybody who decides so decides alike: it is what
    /// `TraceIdRatioBased` does elsewhere.
    #[inline]
    pub fn takes(self, id: u64) -> bool {
        id >> 1 < self.0
    }
}

/// Takes finished spans.
pub trait SpanSink {
    /// Takes one, or drops it when there is no room. Must not block.
    fn take(&mut self, span: Span);
}

/// Maker of trace contexts; one per worker. With tracing off it costs a branch.
pub struct Tracer(Option<Box<Active>>);

struct Active {
    ratio: SampleRatio,
    random: Random,
    sink: Box<dyn SpanSink + Send>,
}

impl Tracer {
    /// A tracer that does nothing.
    pub fn off() -> Self {
        Self(None)
    }

    /// A tracer that samples that share of the traces which begin here. `seed` must be random: ids follow from it.
    pub fn new(ratio: SampleRatio, seed: u128, sink: Box<dyn SpanSink + Send>) -> Self {
        Self(Some(Box::new(Active { ratio, random: Random::new(seed), sink })))
    }

    /// Trace context of a new span: a child of `parent`, which decides whether it is sampled, or the first of a new trace.
    /// `None` with tracing off.
    #[inline]
    pub fn begin(&mut self, parent: Option<TraceContext>) -> Option<TraceContext> {
        self.0.as_mut().map(|active| active.begin(parent))
    }

    /// Ends a span after `duration_us` and passes it to the sink; `failure` names the failure in a word.
    pub fn end(&mut self, span: Option<Box<Span>>, duration_us: u64, failure: Option<&'static str>) {
        if let (Some(active), Some(mut span)) = (&mut self.0, span) {
            span.duration_us = duration_us;
            span.failure = failure;
            active.sink.take(*span);
        }
    }
}

impl Active {
    fn begin(&mut self, parent: Option<TraceContext>) -> TraceContext {
        let span_id = SpanId(draw(&mut self.random).to_ne_bytes());
        match parent {
            Some(parent) => TraceContext { span_id, ..parent },
            None => {
                let (high, low) = (self.random.draw(), draw(&mut self.random));
                let mut trace_id = [0; 16];
                trace_id[..8].copy_from_slice(&high.to_be_bytes());
                trace_id[8..].copy_from_slice(&low.to_be_bytes());
                TraceContext { trace_id: TraceId(trace_id), span_id, sampled: self.ratio.takes(low) }
            }
        }
    }
}

/// A random number that is not 0: 0 is no id.
fn draw(random: &mut Random) -> u64 {
    random.draw().max(1)
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("is_on", &self.0.is_some()).finish()
    }
}

/// A tracer that keeps its spans, for tests.
#[cfg(test)]
pub(crate) mod fake {
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
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn off_there_is_no_trace_even_where_the_caller_has_one() {
        let parent = fake::tracer(1.0).0.begin(None);
        assert!(parent.is_some());
        assert_eq!(Tracer::off().begin(parent), None);
    }

    #[test]
    fn a_child_keeps_trace_and_decision_of_its_parent_and_has_a_name_of_its_own() {
        let mut none = fake::tracer(0.0).0;
        let root = fake::tracer(1.0).0.begin(None).expect("tracing is on");
        let child = none.begin(Some(root)).expect("tracing is on");
        assert!(child.sampled, "the caller's decision counts, not the share of the traces that begin here");
        assert_eq!(child.trace_id, root.trace_id);
        assert_ne!(child.span_id, root.span_id);
        let unsampled = fake::tracer(0.5).0.begin(Some(TraceContext { sampled: false, ..root }));
        assert!(unsampled.is_some_and(|child| !child.sampled));
    }

    #[test]
    fn no_two_traces_or_spans_have_one_name() {
        let mut tracer = fake::tracer(0.5).0;
        let contexts: Vec<TraceContext> = (0..10_000).filter_map(|_| tracer.begin(None)).collect();
        let traces: HashSet<_> = contexts.iter().map(|context| context.trace_id).collect();
        let spans: HashSet<_> = contexts.iter().map(|context| context.span_id).collect();
        assert_eq!((traces.len(), spans.len()), (10_000, 10_000));
        assert!(contexts.iter().all(|context| TraceContext::parse(context.to_text().as_str()) == Some(*context)));
    }

    #[test]
    fn none_all_and_a_share_are_what_they_say() {
        let taken = |share: f64| {
            let ratio = SampleRatio::new(share).expect("a share");
            let mut random = Random::new(1);
            (0..100_000).filter(|_| ratio.takes(random.draw())).count()
        };
        assert_eq!((taken(0.0), taken(1.0)), (0, 100_000));
        assert!((900..1_100).contains(&taken(0.01)), "{}", taken(0.01));
        assert!(SampleRatio::new(1.0).is_some_and(|all| all.takes(u64::MAX)));
    }

    #[test]
    fn a_number_outside_0_to_1_is_not_a_ratio() {
        for share in [-0.1, 1.000_001, f64::NAN, f64::INFINITY] {
            assert_eq!(SampleRatio::new(share), None, "{share}");
        }
    }
}
