//! Presence of devices, and heartbeats of the replica.

use bytes::BufMut;

use super::device_path::DevicePath;
use super::head::Head;
use super::{Cause, Encoder, EnvelopeType, Source};
use crate::protocol::json::write_string;
use crate::protocol::message::write_integer;
use crate::protocol::topic::MessageType;
use crate::protocol::uplink::{Channel, Record};

/// Bytes of a presence message without its texts; a hint.
const DATA_BYTES: usize = 192;

impl Encoder {
    /// Presence: the session was accepted; `peer` is its network address.
    pub fn online(&mut self, source: &Source<'_>, peer: &str) -> Record {
        self.presence(source, &[], MessageType::Online, "cliAddr", peer)
    }

    /// Presence: the session ended.
    pub fn offline(&mut self, source: &Source<'_>, cause: Cause) -> Record {
        self.presence(source, &[], MessageType::Offline, "cause", cause.as_str())
    }

    /// Presence of a child that goes online with its gateway, which is the source's device.
    pub fn child_online(&mut self, source: &Source<'_>, child: &str, peer: &str) -> Record {
        self.presence(source, &[child], MessageType::Online, "cliAddr", peer)
    }

    /// Presence of a child that goes offline with its gateway.
    pub fn child_offline(&mut self, source: &Source<'_>, child: &str, cause: Cause) -> Record {
        self.presence(source, &[child], MessageType::Offline, "cause", cause.as_str())
    }

    /// The heartbeat of this replica, which holds `sessions` and writes the next one after `interval_ms` at most.
    pub fn replica(&mut self, sessions: u64, interval_ms: u64) -> Record {
        let head = Head { replica: true, ..self.head(EnvelopeType::Replica) };
        let address = self.replica_address();
        let replica_id = self.replica_id.clone();
        let encoded = self.encode(&head, DATA_BYTES, |out| {
            out.put_slice(b"{\"replicaid\":");
            write_string(out, &replica_id);
            out.put_slice(b",\"sessions\":");
            write_integer(out, i64::try_from(sessions).unwrap_or(i64::MAX));
            out.put_slice(b",\"interval_ms\":");
            write_integer(out, i64::try_from(interval_ms).unwrap_or(i64::MAX));
            out.put_u8(b'}');
        });
        self.record(Channel::Replica, address, encoded, None)
    }

    fn presence(
        &mut self,
        source: &Source<'_>,
        children: &[&str],
        message_type: MessageType,
        header: &str,
        value: &str,
    ) -> Record {
        let path = DevicePath::of(source, children);
        let head = Head {
            path: Some(path),
            session: source.session,
            replica: true,
            ..self.head(EnvelopeType::Device(message_type))
        };
        // Two ids, a child's and a short suffix stay below the longest subject unless the prefix is itself that long.
        let address = self.address(&path, message_type.dotted(), None).unwrap_or_default();
        let now_ms = i64::try_from(self.now_ms).unwrap_or(i64::MAX);
        let encoded = self.encode(&head, DATA_BYTES, |out| {
            out.put_slice(b"{\"messageType\":\"");
            out.put_slice(message_type.name().as_bytes());
            out.put_slice(b"\",\"deviceId\":");
            write_string(out, path.about());
            out.put_slice(b",\"timestamp\":");
            write_integer(out, now_ms);
            out.put_slice(b",\"headers\":{\"");
            out.put_slice(header.as_bytes());
            out.put_slice(b"\":");
            write_string(out, value);
            out.put_slice(b"}}");
        });
        self.record(Channel::Device, address, encoded, None)
    }
}
