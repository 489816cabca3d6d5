//! Section `limits`.

use std::time::Duration;

use super::section::section;

section! {
    /// Bounds of the process's memory and work.
    LimitsConfig {
        /// Connections of devices; more get CONNACK 0x03.
        connections: usize = number(100_000, 1..=10_000_000),
        /// New connections a second.
        connect_rate: u32 = number(2_000, 1..=10_000_000),
        /// Largest packet that is taken, in bytes; up to four times as much is taken and rejected, which must still fit into
        /// the length of an MQTT packet (256 MiB).
        packet_bytes: usize = size("256KiB", 1..=63 << 20),
        /// Messages of one connection that the queue has not acknowledged.
        inflight_per_connection: usize = number(64, 1..=16_384),
        /// Bytes of all messages that the queue has not acknowledged.
        inflight_bytes: usize = size("256MiB", 1..=1 << 40),
        /// Longest wait for an acknowledgement of the queue before the connection closes.
        ack_timeout: Duration = duration("10s"),
        /// Age at which MQTT sessions are ended, give or take a tenth; `None`, the default: never.
        session_age_max: Option<Duration> = duration_or_never(),
        /// Children of one gateway.
        children_per_gateway: usize = number(1_000, 1..=1_000_000),
    }
}
