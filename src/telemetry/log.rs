//! The log, on stderr: stdout is a queue.

use std::fmt;
use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object in each line.
    Json,
}

/// Why the log cannot start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogError {
    /// The level is none.
    Level,
    /// The process has a log already.
    Taken,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogError::Level => "log.level is neither a level nor a list of levels of modules",
            LogError::Taken => "the log was started twice",
        })
    }
}

impl std::error::Error for LogError {}

/// Starts the log for the whole process; call it once.
///
/// A bare level counts for the bridge; libraries then log warnings at most, since their lower levels are written for
/// their own developers.
///
/// # Errors
/// [`LogError`]; `Level` cannot come of a configuration that was loaded.
pub fn start(level: &str, format: Format) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(directives(level)).map_err(|_| LogError::Level)?;
    let base = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_target(true)
        .with_writer(io::stderr);
    match format {
        Format::Text => base.with_ansi(io::stderr().is_terminal()).try_init(),
        Format::Json => base.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    }
    .map_err(|_| LogError::Taken)
}

fn directives(level: &str) -> String {
    match level {
        "off" | "error" | "warn" => level.to_owned(),
        "info" | "debug" | "trace" => format!("warn,jetlinks_bridge={level}"),
        directives => directives.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_counts_for_the_bridge_and_not_for_libraries() {
        assert_eq!(directives("debug"), "warn,jetlinks_bridge=debug");
        assert_eq!(directives("error"), "error");
        assert_eq!(directives("info,async_nats=debug"), "info,async_nats=debug");
    }

    #[test]
    fn what_the_configuration_takes_for_a_level_is_one() {
        for level in ["off", "error", "warn", "info", "debug", "trace", "info,jetlinks_bridge::transport=debug"] {
            assert!(EnvFilter::try_new(directives(level)).is_ok(), "{level}");
        }
    }
}
