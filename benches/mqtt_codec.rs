//! Cost of framing, decoding and encoding MQTT packets.
//!
//! `cargo bench --no-default-features --bench mqtt_codec`; prints nanoseconds per packet, the best of several rounds. The
//! packets come 64 to a buffer, as one read of a busy connection brings them.

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark prints what it measures")]

use std::hint::black_box;
use std::time::Instant;

use jetlinks_bridge::codec::mqtt::{
    Connect, Credentials, Packet, PacketId, Publish, PublishHead, Qos, Version, decode, encode, frame,
};

const ROUNDS: usize = 15;
const BUFFERS: usize = 5_000;
const PACKETS: usize = 64;

/// 33 bytes.
const TOPIC: &str = "/product1/dev0001/properties/repo";

/// The best of the rounds, in nanoseconds per packet.
fn measure(name: &str, mut buffer: impl FnMut()) {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        for _ in 0..BUFFERS {
            buffer();
        }
        best = best.min(started.elapsed().as_secs_f64() * 1e9 / (BUFFERS * PACKETS) as f64);
    }
    println!("{name:<40} {best:>7.1} ns");
}

/// Bytes of all that is read, so that nothing of the work can be left out.
fn read(mut bytes: &[u8]) -> usize {
    let mut sum = 0;
    while let Ok(Some(found)) = frame(bytes) {
        match decode(Version::V311, found.first_byte, &bytes[found.header_bytes..found.total_bytes()]) {
            Ok(Packet::Publish(publish)) => sum += publish.head.topic.len() + publish.payload.len(),
            Ok(Packet::Connect(connect)) => sum += connect.client_id.len(),
            _ => break,
        }
        bytes = &bytes[found.total_bytes()..];
    }
    sum
}

fn publish(qos: Qos, payload: &[u8]) -> Publish<'_> {
    let packet_id = (qos != Qos::AtMostOnce).then_some(PacketId::MIN);
    Publish { head: PublishHead { dup: false, qos, retain: false, topic: TOPIC, packet_id }, payload }
}

fn main() {
    let payload = vec![b'x'; 2000];
    for (name, qos, payload_bytes) in [
        ("read PUBLISH QoS 0, 200 B", Qos::AtMostOnce, 200),
        ("read PUBLISH QoS 1, 200 B", Qos::AtLeastOnce, 200),
        ("read PUBLISH QoS 0, 2,000 B", Qos::AtMostOnce, 2000),
    ] {
        let mut bytes = Vec::new();
        (0..PACKETS).for_each(|_| encode::publish(&mut bytes, &publish(qos, &payload[..payload_bytes])));
        assert_eq!(read(&bytes), PACKETS * (TOPIC.len() + payload_bytes));
        measure(name, || {
            black_box(read(black_box(&bytes)));
        });
    }
    let connect = Connect {
        version: Version::V311,
        clean_session: true,
        keep_alive_secs: 60,
        client_id: "device1",
        will: None,
        credentials: Credentials {
            username: Some("test|1600000000000"),
            password: Some(b"13426ba310b035960c32cdd9f7c6aa5c"),
        },
    };
    let mut bytes = Vec::new();
    (0..PACKETS).for_each(|_| encode::connect(&mut bytes, &connect));
    measure("read CONNECT", || {
        black_box(read(black_box(&bytes)));
    });
    let mut out = Vec::new();
    measure("write PUBLISH QoS 1, 200 B", || {
        out.clear();
        (0..PACKETS).for_each(|_| encode::publish(&mut out, &publish(Qos::AtLeastOnce, black_box(&payload[..200]))));
        black_box(&out);
    });
    measure("write PUBACK", || {
        out.clear();
        (0..PACKETS).for_each(|_| out.extend_from_slice(&encode::puback(black_box(PacketId::MIN))));
        black_box(&out);
    });
}
