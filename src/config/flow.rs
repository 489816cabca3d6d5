//! Sections `uplink`, `commands`, `envelope` and `presence`.

use std::time::Duration;

use super::reader::{Choice, Reader};
use super::section::section;
use crate::protocol::envelope::Mode;

section! {
    /// Queue of messages from devices.
    UplinkConfig {
        /// The queue.
        queue: UplinkQueue = choice("stdio"),
    }
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

section! {
    /// Queue of commands, and the bounds of those that wait.
    CommandsConfig checked by Self::check {
        /// The queue.
        queue: CommandQueue = choice("none"),
        /// Longest wait for a reply, unless the command says otherwise.
        timeout: Duration = duration("10s"),
        /// Longest `timeout` that a command may ask for.
        timeout_max: Duration = duration("10m"),
        /// Commands of one device that wait for their reply.
        pending_per_device: usize = number(64, 1..=65_536),
        /// Commands that wait for their reply in all.
        pending: usize = number(65_536, 1..=10_000_000),
        /// Older commands get TIME_OUT and are not sent.
        max_age: Duration = duration("60s"),
    }
}

impl CommandsConfig {
    fn check(&self, reader: &mut Reader<'_>) {
        if self.timeout > self.timeout_max {
            reader.invalid("commands.timeout_max", "must not be shorter than commands.timeout");
        }
    }
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

section! {
    /// Encoding of envelopes.
    EnvelopeConfig {
        /// Content mode of CloudEvents.
        mode: Mode = choice("structured"),
    }
}

impl Choice for Mode {
    const ALL: &'static [(&'static str, Self)] = &[("structured", Self::Structured), ("binary", Self::Binary)];
}

section! {
    /// Heartbeats of the bridge.
    PresenceConfig {
        /// Interval of a replica's heartbeats.
        heartbeat: Duration = duration("30s"),
    }
}
