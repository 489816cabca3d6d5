//! One line of the log.
#![expect(clippy::disallowed_methods, reason = "outside the pure core, so it reads the clock itself")]

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::limiter::Limiter;
use crate::protocol::json::must_be_escaped;

/// Format of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Text.
    Text {
        /// Whether the level has a colour.
        ansi: bool,
    },
    /// An object of JSON.
    Json,
}

/// Writes lines as `F` does, but none that the limiter holds back, and each as one line.
#[derive(Debug)]
pub(super) struct Line<F> {
    inner: F,
    shape: Shape,
    limiter: Arc<Limiter>,
}

impl<F> Line<F> {
    pub(super) fn new(inner: F, shape: Shape, limiter: Arc<Limiter>) -> Self {
        Self { inner, shape, limiter }
    }
}

impl<S, N, F> FormatEvent<S, N> for Line<F>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        // What is not written leaves the buffer empty, and an empty buffer costs no call of the system.
        let Some(suppressed) = self.limiter.pass(event.metadata(), Instant::now()) else { return Ok(()) };
        let mut line = String::new();
        self.inner.format_event(ctx, Writer::new(&mut line), event)?;
        let mut text = line.strip_suffix('\n').unwrap_or(&line);
        match self.shape {
            Shape::Json if suppressed > 0 => text = text.strip_suffix('}').unwrap_or(text),
            Shape::Json | Shape::Text { ansi: false } => {}
            Shape::Text { ansi: true } => text = write_coloured_head(&mut writer, text, *event.metadata().level())?,
        }
        // Of JSON those above ASCII are left, which a terminal obeys all the same.
        for part in text.split_inclusive(must_be_escaped) {
            match part.chars().next_back().filter(|&last| must_be_escaped(last)) {
                Some(last) => {
                    writer.write_str(&part[..part.len() - last.len_utf8()])?;
                    match self.shape {
                        Shape::Json => write!(writer, "\\u{:04x}", u32::from(last))?,
                        Shape::Text { .. } => write!(writer, "{}", last.escape_default())?,
                    }
                }
                None => writer.write_str(part)?,
            }
        }
        match (suppressed, self.shape) {
            (0, _) => writer.write_char('\n'),
            (_, Shape::Text { .. }) => writeln!(writer, " suppressed={suppressed}"),
            (_, Shape::Json) => writeln!(writer, ",\"suppressed\":{suppressed}}}"),
        }
    }
}

/// Writes the time and the level, which is coloured; the rest of the line. Colours of the formatter itself could not be
/// told from those that a peer sends.
fn write_coloured_head<'t>(writer: &mut Writer<'_>, text: &'t str, level: Level) -> Result<&'t str, fmt::Error> {
    const LEVEL_BYTES: usize = 5;
    let head = text.find(' ').and_then(|at| text.split_at_checked(at + 1 + LEVEL_BYTES));
    let Some((head, rest)) = head else { return Ok(text) };
    let (time, name) = head.split_at(head.len() - LEVEL_BYTES);
    let colour = match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        _ => 35,
    };
    write!(writer, "{time}\u{1b}[{colour}m{name}\u{1b}[0m")?;
    Ok(rest)
}

/// A line of the log's own: `dropped` lines are missing here.
pub(super) fn gap(shape: Shape, dropped: u64) -> String {
    const TARGET: &str = "jetlinks_bridge::telemetry::log";
    const TEXT: &str = "the log was not read, so lines are missing here";
    let mut time = String::new();
    // Writing into a text does not fail.
    let _written = SystemTime.format_time(&mut Writer::new(&mut time));
    match shape {
        Shape::Text { ansi } => {
            let level = if ansi { "\u{1b}[33m WARN\u{1b}[0m" } else { " WARN" };
            format!("{time} {level} {TARGET}: {TEXT} suppressed={dropped}\n")
        }
        Shape::Json => {
            let line = json!({
                "timestamp": time, "level": "WARN", "message": TEXT, "suppressed": dropped, "target": TARGET,
            });
            format!("{line}\n")
        }
    }
}
