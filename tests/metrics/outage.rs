//! A queue that stands still, one that dies, and one in whose place somebody else answers.

use std::process::Stdio;

use jetlinks_bridge::codec::coap::{Code, Kind};

use crate::coap::unconfirmed;
use crate::page::Seen;
use crate::support::{
    Bridge, CoapDevice, Connect, Nats, Process, Registration, Registry, Settings, Wire, eventually, packet,
};
use crate::{PATIENCE, wait_counted};

const REPORT: &str = r#"{"properties":{"a":1}}"#;

/// Plays the part.
pub(crate) fn play() -> Seen {
    let mut seen = Seen::default();
    stand_still(&mut seen);
    repeat_an_answer(&mut seen);
    die(&mut seen);
    answer_in_the_place_of_the_stream(&mut seen);
    fill_a_subject(&mut seen);
    seen
}

fn stand_still(seen: &mut Seen) {
    let nats = Nats::start();
    let devices: Vec<Registration> =
        (1..=3).map(|number| Registration::encrypting(&format!("device{number}"))).collect();
    let registry = Registry::new(&devices);
    let settings = Settings::nats(&registry, &nats)
        .text("coap.listen", "127.0.0.1:0")
        .text("limits.ack_timeout", "10s")
        .toml("limits.inflight_per_connection", "4");
    let bridge = Bridge::start(&settings);
    let mut unconfirming = Wire::connect(bridge.mqtt(), &devices[0]);
    let mut confirming = Wire::connect(bridge.mqtt(), &devices[1]);
    confirming.publish_acknowledged(&devices[1].topic("properties/report"), REPORT, 1);
    nats.process().signal(libc::SIGSTOP);
    for id in 1..=10 {
        unconfirming.publish(&devices[0].topic("properties/report"), REPORT, 0, 0);
        confirming.publish(&devices[1].topic("properties/report"), REPORT, 1, id);
    }
    let mut device = CoapDevice::plain(bridge.listener("coap"));
    for _ in 0..5 {
        let datagram = unconfirmed(&mut device, &devices[2]);
        device.send(&datagram);
    }
    wait_counted(&bridge, "paused_connections", &[]);
    wait_counted(&bridge, "inflight_bytes", &[]);
    wait_counted(&bridge, "coap_dropped_total", &["overload"]);
    seen.scrape(&bridge);
    wait_counted(&bridge, "coap_dropped_total", &["ack_timeout"]);
    wait_counted(&bridge, "unacknowledged_total", &[]);
    wait_counted(&bridge, "dropped_total", &["ack_timeout"]);
    wait_counted(&bridge, "sessions_closed_total", &["not_acknowledged"]);
    wait_counted(&bridge, "queue_stalls_total", &[]);
    eventually("newcomers are told that the queue is away", PATIENCE, || {
        let mut wire = Wire::open(bridge.mqtt());
        wire.send(&Connect::of(&devices[2]).bytes());
        drop(wire.next());
        (bridge.metric("jetlinks_bridge_connects_total", &["queue_away"]) > 0.0).then_some(())
    });
    seen.scrape(&bridge);
    nats.process().signal(libc::SIGCONT);
}

/// An answer of its own, which its device does not acknowledge.
fn repeat_an_answer(seen: &mut Seen) {
    let nats = Nats::start();
    let good = Registration::encrypting("device1");
    let registry = Registry::new(std::slice::from_ref(&good));
    let bridge = Bridge::start(&Settings::nats(&registry, &nats).text("coap.listen", "127.0.0.1:0"));
    let mut device = CoapDevice::plain(bridge.listener("coap"));
    nats.process().signal(libc::SIGSTOP);
    let request = device.encrypted(&good, "properties/report", REPORT).encode();
    device.send(&request);
    let empty = device.receive().unwrap();
    assert_eq!((empty.kind(), empty.code()), (Kind::Acknowledgement, Code::EMPTY));
    nats.process().signal(libc::SIGCONT);
    wait_counted(&bridge, "coap_retransmissions_total", &[]);
    seen.scrape(&bridge);
}

fn die(seen: &mut Seen) {
    let mut nats = Nats::start();
    let (registry, devices) = Registry::numbered(1);
    let settings = Settings::nats(&registry, &nats).text("limits.packet_bytes", "2MiB");
    let bridge = Bridge::start(&settings);
    let mut wire = Wire::connect(bridge.mqtt(), &devices[0]);
    // The server takes 1 MiB.
    let huge = format!(r#"{{"data":"{}"}}"#, "x".repeat(1_200_000));
    wire.send(&packet::publish(&devices[0].topic("event/e"), huge.as_bytes(), 1, 1));
    wait_counted(&bridge, "queue_records_total", &["failed"]);
    assert_eq!(wire.next_packet().header, 0x40, "PUBACK of what was rejected");
    nats.kill9();
    wait_counted(&bridge, "queue_outages_total", &[]);
    wire.publish(&devices[0].topic("properties/report"), REPORT, 0, 0);
    wait_counted(&bridge, "queue_records_total", &["refused"]);
    seen.scrape(&bridge);
}

fn answer_in_the_place_of_the_stream(seen: &mut Seen) {
    let nats = Nats::start();
    let (registry, devices) = Registry::numbered(1);
    let bridge = Bridge::start(&Settings::nats(&registry, &nats));
    let mut call = nats.cli();
    call.args(["reply", "jetlinks.device.>", "ok"]).stdout(Stdio::null()).stderr(Stdio::null());
    let answering = Process::spawn(&mut call, None);
    let mut wire = Wire::connect(bridge.mqtt(), &devices[0]);
    eventually("the subscriber has answered a record", PATIENCE, || {
        wire.publish_acknowledged(&devices[0].topic("properties/report"), REPORT, 1);
        (bridge.metric("jetlinks_bridge_foreign_acknowledgements_total", &[]) > 0.0).then_some(())
    });
    seen.scrape(&bridge);
    drop(answering);
}

fn fill_a_subject(seen: &mut Seen) {
    let nats = Nats::start();
    let stream = ["stream", "add", "JETLINKS_DEVICE", "--subjects", "jetlinks.>", "--discard", "new"];
    let each = ["--discard-per-subject", "--max-msgs-per-subject", "2", "--defaults"];
    assert!(nats.run_cli(&[&stream[..], &each].concat()).status.success());
    let (registry, devices) = Registry::numbered(1);
    let bridge = Bridge::start(&Settings::nats(&registry, &nats));
    let mut wire = Wire::connect(bridge.mqtt(), &devices[0]);
    for id in 1..=3 {
        wire.publish_acknowledged(&devices[0].topic("properties/report"), REPORT, id);
    }
    wait_counted(&bridge, "rejected_total", &["refused"]);
    seen.scrape(&bridge);
}
