//! Shared helpers of the protocol tests.

use jetlinks_bridge::protocol::child::{Child, Children};
use jetlinks_bridge::protocol::envelope::{Encoder, Mode, Source};
use jetlinks_bridge::protocol::explain::Explainer;
use jetlinks_bridge::protocol::message::decode;
use jetlinks_bridge::protocol::topic::{Upward, parse_up};
use jetlinks_bridge::protocol::uplink::{Addressing, Record};
use serde_json::Value;

/// 2026-11-22T09:00:00.123Z
pub(crate) const NOW_MS: u64 = 1_795_338_000_123;
pub(crate) const SESSION: &str = "01JDA0Z6W3000000000000000S";

pub(crate) fn encoder(mode: Mode, addressing: Addressing) -> Encoder {
    let mut encoder = Encoder::new(mode, addressing, "replica1".to_owned(), 1);
    encoder.set_now(NOW_MS);
    encoder
}

pub(crate) fn by_subject(mode: Mode) -> Encoder {
    encoder(mode, Addressing::Subject("jetlinks".to_owned()))
}

pub(crate) fn source<'a>(product: &'a str, device: &'a str) -> Source<'a> {
    Source { product, device, session: Some(SESSION), about_product: None }
}

/// A registry that knows no child.
pub(crate) struct Nobody;

impl Children for Nobody {
    fn child(&self, _: &str) -> Child {
        Child::Unknown
    }
}

pub(crate) fn explainer() -> Explainer {
    Explainer {
        subject_prefix: "jetlinks".to_owned(),
        kafka_topic: "jetlinks.device".to_owned(),
        kafka_rejected_topic: "jetlinks.rejected".to_owned(),
        packet_bytes_max: 256 * 1024,
        now_ms: NOW_MS,
        seed: 1,
    }
}

/// The record of a message that product1's device sent, gw1 when the topic says so.
pub(crate) fn record(encoder: &mut Encoder, topic: &str, payload: &str) -> Record {
    let mut segments = topic.split('/').skip(1);
    let (product, device) = (segments.next().expect("product"), segments.next().expect("device"));
    let Ok(Upward::Message(route)) = parse_up(topic, product, device) else { panic!("{topic} is no message") };
    let message = decode(&route, payload.as_bytes(), NOW_MS).expect("a message of its type");
    encoder.device(&source(product, device), &route, &message, None)
}

pub(crate) fn parsed(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap_or_else(|error| panic!("{error}: {}", json.escape_ascii()))
}

/// Reproducible numbers.
pub(crate) struct Random(jetlinks_bridge::protocol::random::Random);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(jetlinks_bridge::protocol::random::Random::new(seed.into()))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.draw()
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit
    }
}
