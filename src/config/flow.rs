//! Sections `uplink`, `commands`, `envelope` and `presence`.

use std::time::Duration;

use super::reader::{Choice, Reader};
use crate::protocol::envelope::Mode;

/// Queue of messages from devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkConfig {
    /// Default `stdio`.
    pub queue: UplinkQueue,
}

/// A queue for messages of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UplinkQueue {
    /// One envelope in each line on stdout.
    Stdio,
    /// Kafka.
    Kafka,
    /// NATS JetStream.
    Nats,
}

impl Choice for UplinkQueue {
    const ALL: &'static [(&'static str, Self)] =
        &[("stdio", Self::Stdio), ("kafka", Self::Kafka), ("nats", Self::Nats)];
}

/// Queue of commands, and the bounds of those that wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandsConfig {
    /// Default `none`.
    pub queue: CommandQueue,
    /// Longest wait for a reply, unless the command says otherwise. Default 10 s.
    pub timeout: Duration,
    /// Longest `timeout` that a command may ask for. Default 10 min.
    pub timeout_max: Duration,
    /// Commands of one device that wait for their reply. Default 64.
    pub pending_per_device: usize,
    /// Commands that wait for their reply in all. Default 65,536.
    pub pending: usize,
    /// Older commands get TIME_OUT and are not sent. Default 60 s.
    pub max_age: Duration,
}

/// A queue for commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandQueue {
    /// No commands.
    None,
    /// One command in each line on stdin.
    Stdio,
    /// Kafka.
    Kafka,
    /// NATS request and reply.
    Nats,
}

impl Choice for CommandQueue {
    const ALL: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("stdio", Self::Stdio), ("kafka", Self::Kafka), ("nats", Self::Nats)];
}

/// Encoding of envelopes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvelopeConfig {
    /// Default `structured`.
    pub mode: Mode,
}

impl Choice for Mode {
    const ALL: &'static [(&'static str, Self)] = &[("structured", Self::Structured), ("binary", Self::Binary)];
}

/// Heartbeats of the bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceConfig {
    /// Interval of a replica's heartbeats. Default 30 s.
    pub heartbeat: Duration,
}

impl UplinkConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self { queue: reader.choice("uplink.queue", "stdio") }
    }
}

impl CommandsConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let commands = Self {
            queue: reader.choice("commands.queue", "none"),
            timeout: reader.duration("commands.timeout", "10s"),
            timeout_max: reader.duration("commands.timeout_max", "10m"),
            pending_per_device: reader.number("commands.pending_per_device", 64, 1..=65_536),
            pending: reader.number("commands.pending", 65_536, 1..=10_000_000),
            max_age: reader.duration("commands.max_age", "60s"),
        };
        if commands.timeout > commands.timeout_max {
            reader.invalid("commands.timeout_max", "must not be shorter than commands.timeout");
        }
        commands
    }
}

impl EnvelopeConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self { mode: reader.choice("envelope.mode", "structured") }
    }
}

impl PresenceConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self { heartbeat: reader.duration("presence.heartbeat", "30s") }
    }
}
