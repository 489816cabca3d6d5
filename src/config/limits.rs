//! Section `limits`.

use std::time::Duration;

use super::reader::Reader;

/// Bounds of the process's memory and work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Connections of devices; more get CONNACK 0x03. Default 100,000.
    pub connections: usize,
    /// New connections a second. Default 2,000.
    pub connect_rate: u32,
    /// Largest packet that is taken, in bytes; up to four times as much is taken and rejected. Default 256 KiB.
    pub packet_bytes: usize,
    /// Messages of one connection that the queue has not acknowledged, 1 to 16,384. Default 64.
    pub inflight_per_connection: usize,
    /// Bytes of all messages that the queue has not acknowledged. Default 256 MiB.
    pub inflight_bytes: usize,
    /// Longest wait for an acknowledgement of the queue before the connection closes. Default 10 s.
    pub ack_timeout: Duration,
    /// Age at which MQTT sessions are ended, give or take a tenth. Default: off.
    pub session_age_max: Option<Duration>,
    /// Children of one gateway. Default 1,000.
    pub children_per_gateway: usize,
}

impl LimitsConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            connections: reader.number("limits.connections", 100_000, 1..=10_000_000),
            connect_rate: reader.number("limits.connect_rate", 2_000, 1..=10_000_000),
            // Four times as much must still fit into the length of an MQTT packet (256 MiB).
            packet_bytes: bytes(reader.size("limits.packet_bytes", "256KiB", 1..=63 << 20)),
            inflight_per_connection: reader.number("limits.inflight_per_connection", 64, 1..=16_384),
            inflight_bytes: bytes(reader.size("limits.inflight_bytes", "256MiB", 1..=1 << 40)),
            ack_timeout: reader.duration("limits.ack_timeout", "10s"),
            session_age_max: Some(reader.duration_or_zero("limits.session_age_max", "0s")).filter(|age| !age.is_zero()),
            children_per_gateway: reader.number("limits.children_per_gateway", 1_000, 1..=1_000_000),
        }
    }
}
