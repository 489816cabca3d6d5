//! Distributed tracing: where a message stands in somebody's trace, and the spans that the bridge adds.
//!
//! 1. [`Tracer::begin`] gives what is taken in its [`TraceContext`]: a trace of its own, or a part of the caller's.
//!    With tracing off there is none, and nothing below happens.
//! 2. The context travels as `traceparent`: an attribute of the envelope, and a header of its own beside it.
//! 3. Where the context says sampled, a [`Span`] is kept beside what is on its way, and [`Tracer::end`] hands it out once
//!    the queue has the message, or the caller its outcome.

mod context;
mod span;
mod tracer;

pub use context::{SpanId, TRACEPARENT_BYTES, TraceContext, TraceId, Traceparent};
pub use span::{Operation, Span};
#[cfg(test)]
pub(crate) use tracer::fake;
pub use tracer::{SampleRatio, SpanSink, Tracer};
