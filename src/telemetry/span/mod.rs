//! Spans on their way to a collector.
//!
//! 1. Whoever makes spans holds a sink ([`Spans::sink`]), which puts them into one bounded queue or, when that is full,
//!    drops and counts them.
//! 2. One thread takes them out in batches and posts them as OTLP over HTTP. What the collector does not take for the
//!    moment is offered again, while the queue fills up.
//! 3. [`Spans::finish`] exports what is left, within a short time.
//!
//! The library of OpenTelemetry has a pipeline for this; see `docs/decisions/0011-spans-without-an-sdk.md` for why this
//! one takes no more of it than the form of the messages.

mod client;
mod exporter;
mod otlp;
mod settings;

pub use client::ExportError;
pub use exporter::{SpanExport, Spans};
pub use settings::{Destinations, MessagingSystem, SpanSettings};
