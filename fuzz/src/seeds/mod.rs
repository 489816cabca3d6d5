//! Seeds of the fuzz targets: the golden rows of the protocol's tests, and a few hand-made packets and sequences.

mod shell;

use std::path::Path;
use std::{fs, io};

use jetlinks_bridge::codec::mqtt::{Connect, Credentials, PacketId, Publish, PublishHead, Qos, Version, Will, encode};
use serde_json::Value;

/// The target, a name within it, the input.
pub type Seed = (&'static str, String, Vec<u8>);

/// All seeds.
///
/// # Panics
/// When the golden files are not what they are expected to be.
pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let vectors = include_str!("../../../tests/golden/vectors.jsonl");
    for (index, row) in vectors.lines().enumerate() {
        let row: Value = serde_json::from_str(row).expect("a row is JSON");
        if let (Some(topic), Some(payload)) = (row["topic"].as_str(), row["payload"].as_str()) {
            let input = [topic.as_bytes(), b"\n", payload.as_bytes()].concat();
            seeds.push(("topic_and_message", format!("vector-{index:03}"), input));
            seeds.push(("mqtt_decode", format!("publish-{index:03}"), publish(topic, payload)));
        }
        if row["command"].is_object() {
            seeds.push(("command", format!("json-{index:03}"), row["command"].to_string().into_bytes()));
            if let Some(topic) = row["topic"].as_str() {
                let subject = topic.trim_start_matches('/').replace('/', ".");
                let input = format!("{subject}\n{}", row["command"]).into_bytes();
                seeds.push(("command", format!("subject-{index:03}"), input));
            }
        }
    }
    seeds.extend(packets());
    seeds.extend(connects());
    seeds.extend(shell::all());
    seeds.extend(proxy_headers());
    seeds.extend(frames());
    seeds.extend(sequences());
    seeds
}

/// Writes every seed to the folder of its target in `corpus`, where cargo-fuzz looks for them.
///
/// # Errors
/// The system's.
pub fn write(corpus: &Path) -> io::Result<usize> {
    let seeds = all();
    for (target, name, bytes) in &seeds {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("seed-{name}")), bytes)?;
    }
    Ok(seeds.len())
}

fn publish(topic: &str, payload: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    if topic.is_empty() || topic.contains(['+', '#']) {
        return bytes;
    }
    let head = PublishHead { dup: false, qos: Qos::AtLeastOnce, retain: false, topic, packet_id: Some(PacketId::MIN) };
    encode::publish(&mut bytes, &Publish { head, payload: payload.as_bytes() });
    bytes
}

fn proxy_headers() -> Vec<Seed> {
    let seed = |name: &str, bytes: &[u8]| ("proxy_header", name.to_owned(), bytes.to_vec());
    let v2 = |command_and_family: &[u8], rest: &[u8]| {
        let length = [0, u8::try_from(rest.len()).expect("a short rest")];
        [b"\r\n\r\n\0\r\nQUIT\n", command_and_family, &length, rest].concat()
    };
    vec![
        seed("tcp4", b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"),
        seed("tcp6", b"PROXY TCP6 2001:db8::1 ::1 56324 1883\r\n"),
        seed("unknown", b"PROXY UNKNOWN ffff::ffff ffff::ffff 65535 65535\r\n"),
        seed("inet", &v2(&[0x21, 0x11], &[10, 0, 0, 1, 10, 0, 0, 2, 1, 2, 3, 4, 4, 0, 0])),
        seed("inet6", &v2(&[0x21, 0x21], &[7; 36])),
        seed("local", &v2(&[0x20, 0], &[])),
    ]
}

fn frames() -> Vec<Seed> {
    let seed = |name: &str, bytes: &[u8]| ("websocket_frames", name.to_owned(), bytes.to_vec());
    let frame = |first_byte: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).expect("a short payload");
        [&[first_byte, 0x80 | length, 0, 0, 0, 0][..], payload].concat()
    };
    vec![
        seed("whole", &frame(0x82, b"data")),
        seed("parts", &[frame(0x02, b"da"), frame(0x89, b"ping"), frame(0x80, b"ta"), frame(0x8a, b"")].concat()),
        seed("pings", &[frame(0x89, b"first"), frame(0x89, b"second"), frame(0x88, &[3, 232])].concat()),
        seed("long", &[&[0x82, 0xfe, 0, 126, 1, 2, 3, 4][..], &[7; 126]].concat()),
        seed("longer", &[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4, 5]),
        seed("text", &frame(0x81, b"text")),
    ]
}

/// CONNECTs: one that is let in, one that is late, one without credentials.
fn connects() -> Vec<Seed> {
    let good = (Some("test|1600000000000"), Some(&b"13426ba310b035960c32cdd9f7c6aa5c"[..]));
    let late = (Some("test|1500000000000"), good.1);
    let named = [("good", good), ("late", late), ("bare", (None, None))];
    let seed = |(name, (username, password)): (&str, (Option<&'static str>, Option<&'static [u8]>))| {
        let mut bytes = Vec::new();
        let packet = Connect {
            version: Version::V311,
            clean_session: true,
            keep_alive_secs: 60,
            client_id: "device1",
            will: None,
            credentials: Credentials { username, password },
        };
        encode::connect(&mut bytes, &packet);
        ("connect", name.to_owned(), bytes)
    };
    named.map(seed).into()
}

fn packets() -> Vec<Seed> {
    let mut connect = Vec::new();
    let will = Will { topic: "/product1/device1/log", payload: b"{}", qos: Qos::AtLeastOnce, retain: false };
    let credentials =
        Credentials { username: Some("test|1600000000000"), password: Some(b"13426ba310b035960c32cdd9f7c6aa5c") };
    let mut packet = Connect {
        version: Version::V311,
        clean_session: true,
        keep_alive_secs: 60,
        client_id: "device1",
        will: Some(will),
        credentials,
    };
    encode::connect(&mut connect, &packet);
    let mut old = Vec::new();
    packet.version = Version::V31;
    encode::connect(&mut old, &packet);
    let mut session = Vec::new();
    encode::subscribe(&mut session, PacketId::MIN, &[("/product1/device1/#", Qos::AtLeastOnce)]);
    // UNSUBSCRIBE and SUBACK, for which there is no encoder or no wish to need one.
    session.extend(b"\xa2\x17\x00\x01\x00\x13/product1/device1/#\x90\x03\x00\x01\x80");
    session
        .extend([encode::puback, encode::pubrec, encode::pubrel, encode::pubcomp].map(|f| f(PacketId::MIN)).concat());
    session.extend([encode::PINGREQ, encode::PINGRESP, encode::DISCONNECT].concat());
    let named = [("connect-311", connect), ("connect-31", old), ("session", session)];
    named.map(|(name, bytes)| ("mqtt_decode", name.to_owned(), bytes)).into()
}

/// Bytes as [`super::operations::Operations`] reads them; the first one is the session's opening.
fn sequences() -> Vec<Seed> {
    const PUBLISH: [u8; 2] = [0, 1];
    let named: [(&str, Vec<u8>); 6] = [
        ("in-order", [&[0][..], &PUBLISH, &PUBLISH, &[31, 23, 0, 23, 0, 23, 0]].concat()),
        // Receipts from behind, one failure, an outage that loses the line, everything again.
        (
            "outage",
            [&[2][..], &PUBLISH, &PUBLISH, &PUBLISH, &[19, 2, 22, 23, 1, 23, 0, 27, 1, 28, 31, 23, 2, 23, 0]].concat(),
        ),
        // QoS 2, sent again before and after PUBREC, then released.
        ("exactly-once", vec![4, 0, 2, 10, 0, 31, 23, 0, 23, 0, 10, 0, 11, 0, 0, 2]),
        // Subscribed at QoS 1; commands that wait for a reply, a PUBACK and nothing.
        ("commands", vec![0, 13, 1, 17, 0x40, 17, 0x44, 17, 0x48, 16, 0, 15, 1, 17, 0x42, 17, 0x42, 29, 90]),
        // A gateway with children; the connection breaks while the queue is away.
        ("gateway", [&[8][..], &PUBLISH, &[27, 1, 0, 1, 30, 24, 28, 31, 23, 0, 23, 0]].concat()),
        ("drained", [&[0][..], &PUBLISH, &[30, 0, 0, 1, 31, 23, 0, 23, 0]].concat()),
    ];
    named.map(|(name, bytes)| ("session_operations", name.to_owned(), bytes)).into()
}
