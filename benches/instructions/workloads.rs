//! Work whose instructions are counted. All of it is the same in every run: ids, times, seeds and bytes.

use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};

use jetlinks_bridge::codec::mqtt::{Connect, Credentials, PacketId, Publish, PublishHead, Qos, Version, encode};
use jetlinks_bridge::protocol::auth::sign;
use jetlinks_bridge::protocol::command::Command;
use jetlinks_bridge::protocol::downlink::{DownlinkEvent, Recipient, Ticket};
use jetlinks_bridge::protocol::envelope::{Encoder, Mode, Source};
use jetlinks_bridge::protocol::message::decode;
use jetlinks_bridge::protocol::topic::{Upward, parse_up};
use jetlinks_bridge::protocol::uplink::{Addressing, Record, SlotId};

use crate::rig::{Pipe, Rig};

/// Devices in the registry.
const DEVICES: usize = 4_096;

/// Devices that report or get commands.
const CONNECTED: usize = 100;

/// Messages of one device in one read, where it does not wait for acknowledgements.
const WINDOW: usize = 20;

/// Messages of a millisecond.
const PER_MS: usize = 64;

/// One kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Its name in the table and in the baseline.
    pub(crate) name: &'static str,
    /// What is done for one message.
    pub(crate) about: &'static str,
    /// Steps that are counted.
    pub(crate) steps: usize,
    /// Messages of a step.
    pub(crate) messages: usize,
}

/// Every kind, in the order of the table.
pub(crate) const KINDS: [Kind; 6] = [
    Kind { name: "record", about: "topic and 200 B of a report to a record for NATS", steps: 2_000, messages: 1 },
    Kind {
        name: "publish",
        about: "PUBLISH of a report of 200 B, one at a time, to its PUBACK",
        steps: 2_000,
        messages: 1,
    },
    Kind {
        name: "publish-20",
        about: "the same, 20 in one read and one batch of receipts",
        steps: 200,
        messages: WINDOW,
    },
    Kind {
        name: "connect",
        about: "CONNECT of a device that was not here, to CONNACK and the receipt of online",
        steps: 2_000,
        messages: 1,
    },
    Kind { name: "connect-claimed", about: "the same, claimed among replicas", steps: 2_000, messages: 1 },
    Kind { name: "command", about: "command to a device, its reply, the outcome, PUBACK", steps: 2_000, messages: 1 },
];

/// Steps before those that are counted.
const WARM_UP: usize = 500;

/// Does the work of a kind; `counted` does that part of it whose instructions count. `folder` takes a file.
pub(crate) fn run(kind: Kind, folder: &Path, counted: fn(&mut dyn FnMut())) {
    let mut work: Box<dyn FnMut()> = match kind.name {
        "record" => record(),
        "publish" => publish(folder, 1),
        "publish-20" => publish(folder, WINDOW),
        "connect" => connect(folder, false),
        "connect-claimed" => connect(folder, true),
        _ => command(folder),
    };
    (0..WARM_UP).for_each(|_| work());
    counted(&mut || (0..kind.steps).for_each(|_| work()));
}

fn record() -> Box<dyn FnMut()> {
    let mut encoder =
        Encoder::new(Mode::Structured, Addressing::Subject("jetlinks".to_owned()), "replica1".to_owned(), 7);
    let (topic, payload) = (topic(1, "properties/report"), report());
    let mut now_ms = 1_795_338_000_000;
    // As many are held until their receipts come.
    let mut held: Vec<Option<Record>> = vec![None; PER_MS];
    let mut sent = 0;
    Box::new(move || {
        sent += 1;
        if sent % PER_MS == 0 {
            now_ms += 1;
            encoder.set_now(now_ms);
        }
        let device = device(1);
        let source = Source {
            product: "product1",
            device: &device,
            session: Some("01JDA0Z6W3000000000000000S"),
            about_product: None,
        };
        let Ok(Upward::Message(route)) = parse_up(black_box(&topic), source.product, source.device) else {
            panic!("it is the device's own topic")
        };
        let message = decode(&route, black_box(&payload), now_ms).expect("it is a report");
        let trace = encoder.tracer.begin(None);
        held[sent % PER_MS] = Some(encoder.device(&source, &route, &message, trace));
    })
}

fn publish(folder: &Path, window: usize) -> Box<dyn FnMut()> {
    let mut rig = Rig::new(&registry(folder), false);
    let connected = connected(&mut rig);
    let reports: Vec<Vec<u8>> = (1..=CONNECTED).map(|number| reports(number, window)).collect();
    let mut turn = 0;
    Box::new(move || {
        turn += 1;
        if (turn * window).is_multiple_of(PER_MS) {
            rig.pass();
        }
        let place = turn % CONNECTED;
        let (session, pipe) = &connected[place];
        rig.receive(*session, &reports[place]);
        assert_eq!(rig.store(), window);
        assert_eq!(pipe.take(), 4 * window, "each is acknowledged");
    })
}

fn connect(folder: &Path, is_claimed: bool) -> Box<dyn FnMut()> {
    let mut rig = Rig::new(&registry(folder), is_claimed);
    let packets: Vec<Vec<u8>> = (1..=DEVICES).map(|number| connect_packet(number, rig.now().unix_ms)).collect();
    let mut turn = 0;
    let mut pipes = Vec::with_capacity(DEVICES);
    Box::new(move || {
        if turn % 16 == 15 {
            rig.pass();
        }
        let pipe = Pipe::default();
        rig.connect(&packets[turn], pipe.clone());
        assert_eq!(pipe.take(), 4, "CONNACK");
        assert_eq!(rig.store(), 1, "online");
        turn += 1;
        assert_eq!(rig.claims(), if is_claimed { turn } else { 0 });
        pipes.push(pipe);
    })
}

fn command(folder: &Path) -> Box<dyn FnMut()> {
    let mut rig = Rig::new(&registry(folder), false);
    let connected = connected(&mut rig);
    let subjects: Vec<String> =
        (1..=CONNECTED).map(|number| format!("product1.{}.properties.read", device(number))).collect();
    let body = r#"{"messageId":"a1b2c3d4e5f6","properties":["temperature"]}"#;
    let reply = r#"{"messageId":"a1b2c3d4e5f6","properties":{"temperature":21.5},"success":true}"#;
    let replies: Vec<Vec<u8>> =
        (1..=CONNECTED).map(|number| packet(&topic(number, "properties/read/reply"), reply.as_bytes(), 1)).collect();
    let mut turn = 0;
    Box::new(move || {
        turn += 1;
        if turn % 16 == 0 {
            rig.pass();
        }
        let place = turn % CONNECTED;
        let (session, pipe) = &connected[place];
        let command = Command::from_subject(black_box(&subjects[place]), black_box(body.as_bytes()));
        rig.event(DownlinkEvent::Command {
            to: Recipient::Session(*session),
            ticket: Some(Ticket(turn as u64)),
            command,
        });
        assert!(pipe.take() > body.len(), "the device gets it");
        rig.receive(*session, &replies[place]);
        assert_eq!(rig.succeeded(), turn, "the caller gets its reply");
        assert_eq!(rig.store(), 1);
        assert_eq!(pipe.take(), 4, "the reply is acknowledged");
    })
}

/// Sessions of device1 and so on, whose `online` is stored.
fn connected(rig: &mut Rig) -> Vec<(SlotId, Pipe)> {
    let now_ms = rig.now().unix_ms;
    let mut sessions = Vec::with_capacity(CONNECTED);
    for number in 1..=CONNECTED {
        let pipe = Pipe::default();
        sessions.push((rig.connect(&connect_packet(number, now_ms), pipe.clone()), pipe));
    }
    rig.store();
    assert!(sessions.iter().all(|(_, pipe)| pipe.take() == 4), "CONNACK");
    sessions
}

fn device(number: usize) -> String {
    format!("device{number:06}")
}

fn topic(number: usize, suffix: &str) -> String {
    format!("/product1/{}/{suffix}", device(number))
}

fn secure_key(number: usize) -> String {
    format!("key-of-device-{number:06}")
}

/// A registry of [`DEVICES`] devices.
fn registry(folder: &Path) -> PathBuf {
    let mut text = String::new();
    for number in 1..=DEVICES {
        let (device, key) = (device(number), secure_key(number));
        // Writing to a text does not fail.
        let _ = writeln!(
            text,
            "[[device]]\nid = \"{device}\"\nproduct = \"product1\"\nsecure_id = \"test\"\nsecure_key = \"{key}\"\n"
        );
    }
    let path = folder.join("devices.toml");
    fs::write(&path, text).expect("the folder takes files");
    path
}

fn connect_packet(number: usize, now_ms: u64) -> Vec<u8> {
    let (device, username) = (device(number), format!("test|{now_ms}"));
    let password = sign(&username, &secure_key(number));
    let mut bytes = Vec::new();
    let credentials = Credentials { username: Some(&username), password: Some(&password) };
    let connect = Connect {
        version: Version::V311,
        clean_session: true,
        keep_alive_secs: 60,
        client_id: &device,
        will: None,
        credentials,
    };
    encode::connect(&mut bytes, &connect);
    bytes
}

/// A report of 200 B.
fn report() -> Vec<u8> {
    let head = r#"{"messageId":"1601196762389","timestamp":1601196762389,"properties":{"temperature":21.5,"humidity":48,"battery":87,"text":""#;
    let tail = r#""}}"#;
    format!("{head}{}{tail}", "x".repeat(200 - head.len() - tail.len())).into_bytes()
}

/// PUBLISH of that many reports.
fn reports(number: usize, count: usize) -> Vec<u8> {
    let topic = topic(number, "properties/report");
    (1..).take(count).flat_map(|id| packet(&topic, &report(), id)).collect()
}

fn packet(topic: &str, payload: &[u8], id: u16) -> Vec<u8> {
    let head = PublishHead { dup: false, qos: Qos::AtLeastOnce, retain: false, topic, packet_id: PacketId::new(id) };
    let mut bytes = Vec::new();
    encode::publish(&mut bytes, &Publish { head, payload });
    bytes
}
