//! Sections `runtime`, `drain`, `admin` and `log`.

use std::net::SocketAddr;
use std::time::Duration;

use super::reader::{Choice, Reader};
use crate::protocol::secret::Secret;

/// Worker threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// Threads that serve devices, 1 to 1,024. Default 1.
    pub workers: usize,
}

/// Pace and limit of a shutdown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainConfig {
    /// Connections closed in one second. Default 1,000.
    pub rate: u32,
    /// Longest wait for outstanding acknowledgements after the last batch. Default 20 s.
    pub timeout: Duration,
}

/// The HTTP listener for probes, metrics and sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// Addresses; empty is off. Default `127.0.0.1:9090`.
    pub listen: Vec<SocketAddr>,
    /// Bearer token of `/api`; without one `/api` is closed on every address that is not loopback.
    pub token: Option<Secret>,
    /// Whether `/readyz` is 503 while the replica is full. Default false.
    pub full_not_ready: bool,
}

/// Levels and format of the log, which goes to stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// A level, or a level and levels of modules (`info,jetlinks_bridge::transport=debug`). Default `info`.
    pub level: String,
    /// Default `text`.
    pub format: LogFormat,
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

impl RuntimeConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self { workers: reader.number("runtime.workers", 1, 1..=1_024) }
    }
}

impl DrainConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            rate: reader.number("drain.rate", 1_000, 1..=10_000_000),
            timeout: reader.duration_or_zero("drain.timeout", "20s"),
        }
    }
}

impl AdminConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            listen: reader.listen("admin.listen", "127.0.0.1:9090"),
            token: reader.secret("admin.token"),
            full_not_ready: reader.flag("admin.full_not_ready", false),
        }
    }
}

impl LogConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            level: reader.checked(
                "log.level",
                "info",
                r#"one of off, error, warn, info, debug, trace, or levels of modules, such as "info,async_nats=debug""#,
                is_log_level,
            ),
            format: reader.choice("log.format", "text"),
        }
    }
}
