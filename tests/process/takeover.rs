//! A device that connects again while its older connection is open.

use std::time::{Duration, Instant};

use crate::Stage;
use crate::support::packet::{self, Packet};
use crate::support::{Connect, Version, Wire, wait};

/// The older connection ends within this time, whatever happens to it.
const CLOSED_WITHIN: Duration = Duration::from_millis(500);

/// Takeovers of one device that are let through within a minute.
const TAKEOVERS: usize = 5;

#[test]
fn the_newest_connection_wins_soon_and_no_offline_is_written() {
    wait::soon_once("the older connection ends", CLOSED_WITHIN, take_over);
}

/// Shows who wins; the time until the older connection was closed.
fn take_over() -> Duration {
    let mut stage = Stage::new();
    let connect = Connect::of(&stage.device1).will(&stage.device1.topic("event/will"), r#"{"data":1}"#);
    let mut old = Wire::connect_as(stage.bridge.mqtt(), &connect);
    let first = stage.bridge.expect("device.online", "device1");

    let mut new = Wire::connect_as(stage.bridge.mqtt(), &connect.version(Version::V31));
    let begin = Instant::now();
    old.wait_closed();
    let took = begin.elapsed();

    new.publish_acknowledged(&stage.device1.topic("tags"), r#"{"tags":{"a":1}}"#, 1);
    let second = stage.bridge.expect("device.online", "device1");
    assert_ne!(first["sessionid"], second["sessionid"]);
    let tags = stage.bridge.expect("device.tags", "device1");
    assert_eq!(tags["sessionid"], second["sessionid"]);

    new.send(&packet::DISCONNECT);
    let offline = stage.bridge.expect("device.offline", "device1");
    assert_eq!(offline["sessionid"], second["sessionid"]);
    stage.assert_nothing_written();
    took
}

#[test]
fn a_takeover_loses_no_acknowledged_message() {
    let mut stage = Stage::new();
    let topic = stage.device1.topic("event/e");
    let mut old = stage.connect1();
    let all: Vec<u8> =
        (1..=200).flat_map(|id| packet::publish(&topic, format!(r#"{{"data":{id}}}"#).as_bytes(), 1, id)).collect();
    old.send(&all);
    let mut new = Wire::connect(stage.bridge.mqtt(), &stage.device1);
    let mut acknowledged = 0;
    while let crate::support::wire::Incoming::Packet(answer) = old.next() {
        acknowledged += 1;
        assert_eq!(answer, Packet::answer(packet::PUBACK, acknowledged));
    }
    new.publish_acknowledged(&stage.device1.topic("tags"), r#"{"tags":{"last":1}}"#, 1);

    let mut written = 0;
    loop {
        let envelope = stage.bridge.next_envelope();
        match envelope["type"].as_str().unwrap() {
            "org.jetlinks.device.event" => {
                written += 1;
                assert_eq!(envelope["data"]["data"], written);
            }
            "org.jetlinks.device.online" => {}
            "org.jetlinks.device.tags" => break,
            other => panic!("{other}: {envelope}"),
        }
    }
    assert!(written >= acknowledged, "{acknowledged} acknowledged, {written} written");
}

#[test]
fn the_sixth_takeover_within_a_minute_is_put_off_and_the_fifth_stays_connected() {
    let mut stage = Stage::new();
    let mut current = stage.connect1();
    for _ in 0..TAKEOVERS {
        let mut next = stage.connect1();
        current.wait_closed();
        next.send(&packet::PINGREQ);
        assert_eq!(next.next_packet().header, 0xD0);
        current = next;
    }
    for _ in 0..2 {
        let mut late = Wire::open(stage.bridge.mqtt());
        late.send(&Connect::of(&stage.device1).bytes());
        assert_eq!(late.next_packet(), Packet { header: 0x20, body: vec![0, 3] });
        late.wait_closed();
    }
    current.publish_acknowledged(&stage.device1.topic("tags"), r#"{"tags":{"a":1}}"#, 1);
    stage.bridge.expect("device.tags", "device1");
    // Nobody else is put off with it.
    stage.assert_nothing_written();
}

#[test]
fn a_refused_connect_takes_nothing_over() {
    let mut stage = Stage::new();
    let mut wire = stage.connect1();
    let mut refused = Wire::open(stage.bridge.mqtt());
    refused.send(&Connect { password: Some("0".repeat(32)), ..Connect::of(&stage.device1) }.bytes());
    assert_eq!(refused.next_packet(), Packet { header: 0x20, body: vec![0, 4] });
    refused.wait_closed();
    wire.publish_acknowledged(&stage.device1.topic("tags"), r#"{"tags":{"a":1}}"#, 1);
    stage.bridge.expect("device.tags", "device1");
}
