//! Sections `runtime`, `drain`, `admin` and `log`.

use std::net::SocketAddr;
use std::time::Duration;

use super::reader::Choice;
use super::section::section;
use crate::protocol::secret::Secret;

section! {
    /// Worker threads.
    RuntimeConfig {
        /// Threads that serve devices.
        workers: usize = number(1, 1..=1_024),
    }
}

section! {
    /// Pace and limit of a shutdown.
    DrainConfig {
        /// Connections closed in one second.
        rate: u32 = number(1_000, 1..=10_000_000),
        /// Longest wait for outstanding acknowledgements after the last batch.
        timeout: Duration = duration_or_zero("20s"),
    }
}

section! {
    /// The HTTP listener for probes, metrics and sessions.
    AdminConfig {
        /// Addresses; empty is off.
        listen: Vec<SocketAddr> = listen("127.0.0.1:9090"),
        /// Bearer token of `/api`; without one `/api` is closed on every address that is not loopback.
        token: Option<Secret> = secret(),
        /// Whether `/readyz` is 503 while the replica is full.
        full_not_ready: bool = flag(false),
    }
}

section! {
    /// Levels and format of the log, which goes to stderr.
    LogConfig {
        /// A level, or a level and levels of modules (`info,jetlinks_bridge::transport=debug`).
        level: String = checked(
            "info",
            r#"one of off, error, warn, info, debug, trace, or levels of modules, such as "info,async_nats=debug""#,
            is_log_level,
        ),
        /// Text or JSON.
        format: LogFormat = choice("text"),
    }
}

/// Format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Readable text.
    Text,
    /// One JSON object in each line.
    Json,
}

impl Choice for LogFormat {
    const ALL: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Whether a text can stand for `log.level`.
pub fn is_log_level(text: &str) -> bool {
    text.split(',').all(|part| match part.split_once('=') {
        Some((module, level)) => {
            !module.is_empty()
                && module.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':'))
                && LEVELS.contains(&level)
        }
        None => LEVELS.contains(&part),
    })
}
