//! The log, on stderr: stdout is a queue.
//!
//! Lines wait in memory for a thread of their own that writes them, so whoever reads stderr keeps nobody waiting: see
//! `LogQueue`.
//!
//! A line is one line whatever a peer put into it. Lines of one kind, that is of one place in the sources, are bounded at
//! the levels that peers can reach by mistake, error and warn: see [`Limiter`]. Below them nothing is left out, for whoever
//! asks for debug wants all of it.
//!
//! No secret is written at any level, of no library: the bridge hands none to whoever logs, and lines of libraries that
//! hold what passes over a connection are withheld.

mod control;
mod limiter;
mod line;
mod queue;
#[cfg(test)]
mod tests;

pub use control::LogControl;
pub use limiter::Limiter;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::combinator::And;
use tracing_subscriber::filter::{FilterExt, FilterFn, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{self, JsonFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt as layer, reload};

use self::line::{Line, Shape};
use self::queue::LogQueue;

/// Shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object in each line.
    Json,
}

/// Why the log cannot start, or its level not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The level is not valid.
    #[error(
        "the level is neither off, error, warn, info, debug or trace nor a list with levels of modules, \
        such as info,jetlinks_bridge::transport=debug"
    )]
    Level,
    /// The process has a log already, or none any more.
    #[error("the process has another log")]
    Taken,
    /// The system gives no thread to write lines.
    #[error("the thread of the log: {0}")]
    Thread(io::ErrorKind),
}

/// Starts the log for the whole process; call it once. `is_level` tells which texts the configuration takes for a level.
///
/// A level without a module counts for the bridge, also beside levels of modules; libraries that are not named log warnings at
/// most.
///
/// Lines go to `out`, or without it to stderr.
///
/// # Errors
/// [`LogError`]; `Level` cannot come of a configuration that was loaded.
pub fn start(
    level: &str,
    format: Format,
    is_level: fn(&str) -> bool,
    out: Option<Box<dyn Write + Send>>,
) -> Result<Log, LogError> {
    let shape = match format {
        Format::Text => Shape::Text { ansi: io::stderr().is_terminal() },
        Format::Json => Shape::Json,
    };
    let (filter, control) = control(level, is_level)?;
    let out = out.unwrap_or_else(|| Box::new(io::stderr()));
    let queue = LogQueue::start(shape, out, control.unread_counter());
    let queue = queue.map_err(|error| LogError::Thread(error.kind()))?;
    let writer = queue.clone();
    let lines = lines(shape, control.limiter(), move || writer.clone());
    tracing_subscriber::registry().with(lines.with_filter(filter)).try_init().map_err(|_| LogError::Taken)?;
    Ok(Log { control, queue })
}

/// How long the last lines may take at the end.
const FLUSH: Duration = Duration::from_secs(1);

/// The log of the process. Dropped, it waits until the last lines are written, a second at most.
pub struct Log {
    /// Level and counters, for operators.
    pub control: LogControl,
    queue: LogQueue,
}

impl Log {
    /// Writes a text for whoever started the process, as it is, behind the lines that wait.
    pub fn say(&self, text: &str) {
        let text = format!("{text}\n");
        // The queue takes a text or counts it.
        let _counted = self.queue.clone().write_all(text.as_bytes());
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.queue.flush(FLUSH);
    }
}

type Filter = And<reload::Layer<EnvFilter, Registry>, FilterFn<fn(&Metadata<'_>) -> bool>, Registry>;

/// Lines of libraries that hold what passes over a connection: records of the registry with the keys of devices,
/// messages, credentials. They are written at no level.
const WITHHELD: [(&str, Level); 1] = [("async_nats::connection", Level::TRACE)];

fn is_harmless(metadata: &Metadata<'_>) -> bool {
    !WITHHELD.iter().any(|(target, level)| metadata.target() == *target && metadata.level() == level)
}

/// A filter whose level can be changed, and what changes it.
fn control(level: &str, is_level: fn(&str) -> bool) -> Result<(Filter, LogControl), LogError> {
    let (layer, handle) = reload::Layer::new(filter(level)?);
    let apply = move |level: &str| handle.reload(filter(level)?).map_err(|_| LogError::Taken);
    let filter = layer.and(filter_fn(is_harmless as fn(&Metadata<'_>) -> bool));
    Ok((filter, LogControl::new(level, is_level, apply)))
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(directives(level)).map_err(|_| LogError::Level)
}

/// Writes lines of that shape, as many as the limiter lets through.
fn lines<W>(shape: Shape, limiter: Arc<Limiter>, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    match shape {
        Shape::Text { .. } => {
            let line = Line::new(format::format().with_ansi(false), shape, limiter);
            layer::layer().with_ansi(false).event_format(line).with_writer(writer).boxed()
        }
        Shape::Json => {
            let json = format::format().json().flatten_event(true).with_current_span(false).with_span_list(false);
            let line = Line::new(json, shape, limiter);
            layer::layer().fmt_fields(JsonFields::new()).event_format(line).with_writer(writer).boxed()
        }
    }
}

/// Complains at each attempt to connect of which the bridge itself tells, now and then and with the cause.
const REPEATING: &str = "async_nats::connector=off";

/// Level of libraries below that of the bridge: their lower levels are written for their own developers.
const LIBRARIES: &str = "warn";

/// The directives of a level, or of several: one without a module counts for the bridge, and one with a module for that.
fn directives(level: &str) -> String {
    let (named, bare): (Vec<&str>, Vec<&str>) = level.split(',').partition(|directive| directive.contains('='));
    // Of two that are about the same module the last one counts: what the user says of a module comes behind.
    let mut directives = Vec::new();
    // Who names the client wants to see it.
    if level != "off" && !level.contains("async_nats") {
        directives.push(REPEATING.to_owned());
    }
    for directive in bare {
        match directive {
            "info" | "debug" | "trace" => directives.push(format!("{LIBRARIES},jetlinks_bridge={directive}")),
            directive => directives.push(directive.to_owned()),
        }
    }
    directives.extend(named.into_iter().map(str::to_owned));
    directives.join(",")
}
