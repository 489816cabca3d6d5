//! Cost of a message from topic and payload to its record, and of reading its JSON beside serde_json.
//!
//! `cargo bench --no-default-features --bench topic_to_envelope`; prints nanoseconds per message, the best of several rounds.

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark prints what it measures")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use jetlinks_bridge::protocol::envelope::{Encoder, Mode, Source};
use jetlinks_bridge::protocol::json::scan;
use jetlinks_bridge::protocol::message::decode;
use jetlinks_bridge::protocol::topic::{Upward, parse_up};
use jetlinks_bridge::protocol::trace::{SampleRatio, Span, SpanSink, Tracer};
use jetlinks_bridge::protocol::uplink::{Addressing, Record};
use serde_json::value::RawValue;

const ROUNDS: usize = 15;
const MESSAGES: u32 = 20_000;

const TOPIC: &str = "/product1/device000123/properties/report";

struct Nowhere;

impl SpanSink for Nowhere {
    fn take(&mut self, span: Span) {
        black_box(span);
    }
}

/// The best of the rounds, in nanoseconds per call.
fn measure(name: &str, mut call: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        for _ in 0..MESSAGES {
            call();
        }
        best = best.min(started.elapsed().as_secs_f64() * 1e9 / f64::from(MESSAGES));
    }
    println!("{name:<56} {best:>9.1} ns");
    best
}

fn encode(encoder: &mut Encoder, payload: &[u8], now_ms: u64) -> Option<Record> {
    let source = Source {
        product: "product1",
        device: "device000123",
        session: Some("01JDA0Z6W3000000000000000S"),
        about_product: None,
    };
    let Ok(Upward::Message(route)) = parse_up(black_box(TOPIC), source.product, source.device) else { return None };
    let message = decode(&route, black_box(payload), now_ms).ok()?;
    let trace = encoder.tracer.begin(None);
    let record = encoder.device(&source, &route, &message, trace);
    black_box(encoder.span(&record, &source, route.about(), route.message_type.dotted(), None));
    Some(record)
}

fn properties(count: usize) -> String {
    let members: Vec<String> =
        (0..count).map(|index| format!("\"property{index:02}\":{}.{:02}", index * 7, index % 100)).collect();
    format!("{{\"messageId\":\"1601196762389\",\"timestamp\":1601196762389,\"properties\":{{{}}}}}", members.join(","))
}

fn main() {
    let text = format!(
        "{{\"timestamp\":1601196762389,\"messageId\":\"m1\",\"properties\":{{\"log\":\"{}\"}}}}",
        "a sentence of a device ".repeat(50)
    );
    let payloads = [("5 properties", properties(5)), ("50 properties", properties(50)), ("one long text", text)];
    for (name, payload) in &payloads {
        let bytes = payload.as_bytes();
        println!("{name}, {} bytes", bytes.len());
        let mut encoder =
            Encoder::new(Mode::Structured, Addressing::Subject("jetlinks".to_owned()), "replica1".to_owned(), 7);
        let mut now_ms = 1_795_338_000_000;
        let mut ring: Vec<Option<Record>> = vec![None; 64];
        let mut sent = 0;
        let mut record = |name: &str, encoder: &mut Encoder| {
            measure(name, || {
                sent += 1;
                if sent % 64 == 0 {
                    now_ms += 1;
                    encoder.set_now(now_ms);
                }
                ring[sent % 64] = encode(encoder, bytes, now_ms);
            })
        };
        let untraced = record("  topic to record", &mut encoder);
        let ratio = SampleRatio::new(0.0).unwrap_or_default();
        encoder.tracer = Tracer::new(ratio, 7, Box::new(Nowhere));
        let traced = record("  the same in a trace that is not sampled", &mut encoder);
        println!("  a place in a trace takes {:.1} ns", traced - untraced);
        measure("  topic alone", || {
            black_box(parse_up(black_box(TOPIC), "product1", "device000123")).ok();
        });
        let Ok(Upward::Message(route)) = parse_up(TOPIC, "product1", "device000123") else { return };
        measure("  decode alone", || {
            black_box(decode(&route, black_box(bytes), 1)).ok();
        });
        let ours = measure("  scan alone", || {
            let mut members = 0;
            scan(black_box(bytes), |_| members += 1).ok();
            black_box(members);
        });
        let theirs = measure("  serde_json, map of RawValue", || {
            black_box(serde_json::from_slice::<BTreeMap<&str, &RawValue>>(black_box(bytes))).ok();
        });
        println!("  scan takes {:.2} of serde_json's time", ours / theirs);
    }
}
