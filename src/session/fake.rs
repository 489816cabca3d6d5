//! Fake queue and registry, and the bounds, for the tests of what devices speak.

use bytes::Bytes;

use crate::protocol::child::{Child, Children};
use crate::protocol::envelope::{Encoder, Mode};
use crate::protocol::id::{DeviceId, ProductId};
use crate::protocol::limit::Limits;
use crate::protocol::uplink::{Addressing, DeliveryId, Handover, Record, Uplink};

/// An uplink that remembers.
#[derive(Debug, Default)]
pub(crate) struct FakeUplink {
    pub(crate) published: Vec<(DeliveryId, Record)>,
    pub(crate) refuses: bool,
}

impl FakeUplink {
    pub(crate) fn sequence(&self, index: usize) -> u16 {
        self.published[index].0.sequence
    }

    pub(crate) fn payloads(&self) -> Vec<&str> {
        self.published.iter().map(|(_, record)| text(&record.payload)).collect()
    }
}

impl Uplink for FakeUplink {
    fn publish(&mut self, id: DeliveryId, record: &Record) -> Handover {
        if self.refuses {
            return Handover::NotTaken;
        }
        self.published.push((id, record.clone()));
        Handover::Taken
    }

    fn flush(&mut self) {}
}

pub(crate) fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).expect("envelopes are UTF-8")
}

/// Knows `child1` of `device1`, and `child2` of another gateway.
pub(crate) struct FakeRegistry;

impl Children for FakeRegistry {
    fn child(&self, id: &str) -> Child {
        let gateway = match id {
            "child1" => "device1",
            "child2" => "gw2",
            _ => return Child::Unknown,
        };
        Child::Known { product: ProductId::new("product2").expect("valid"), gateway: DeviceId::new(gateway).ok() }
    }
}

/// Bounds that a test reaches.
pub(crate) fn limits() -> Limits {
    Limits {
        packet_bytes: 1024,
        inflight_per_connection: 4,
        inflight_bytes: 1 << 20,
        ack_timeout_us: 10_000_000,
        keep_alive_max_us: 1_200_000_000,
        command_timeout_ms: 10_000,
        command_timeout_max_ms: 600_000,
        commands_per_device: 3,
        commands: 100,
    }
}

pub(crate) fn encoder() -> Encoder {
    Encoder::new(Mode::Structured, Addressing::Key, "replica1".to_owned(), 7)
}

pub(crate) fn parse(bytes: &Bytes) -> serde_json::Value {
    serde_json::from_slice(bytes).expect("an envelope is JSON")
}

pub(crate) fn field(value: &serde_json::Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}
