//! CONNECT: accepted credentials, and the CONNACK codes of refused ones.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::Stage;
use crate::support::packet::{self, Packet};
use crate::support::registry::{md5_hex, now_ms};
use crate::support::wire::{self, Incoming};
use crate::support::{Connect, Registration, Registry, Version, Wire, eventually};

/// How long anything may take that takes a second or so on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Accepted timestamps are this far from now, ms.
const TIMESTAMP_TOLERANCE: i64 = 300_000;

fn connack(code: u8) -> Packet {
    Packet { header: 0x20, body: vec![0, code] }
}

#[test]
fn a_device_is_accepted_in_both_versions_and_online_before_all_else() {
    for version in Version::ALL {
        let mut stage = Stage::new();
        let connect = Connect::of(&stage.device1).version(version);
        let mut wire = Wire::connect_as(stage.bridge.mqtt(), &connect);
        wire.publish_acknowledged(&stage.device1.topic("properties/report"), r#"{"properties":{"temp":1}}"#, 1);

        let online = stage.bridge.expect("device.online", "device1");
        assert_eq!(online["origin"], "bridge");
        assert_eq!(online["data"]["messageType"], "ONLINE");
        assert_eq!(online["source"], "/product1/device1");
        assert!(online["replicaid"].is_string(), "{online}");
        assert!(online["data"]["headers"]["cliAddr"].as_str().is_some_and(|a| a.contains("127.0.0.1")), "{online}");
        let report = stage.bridge.expect("device.properties.report", "device1");
        assert!(report["sessionid"].is_string());
        assert_eq!(report["sessionid"], online["sessionid"]);
    }
}

#[test]
fn refused_identities_all_hear_the_same_and_leave_nothing_behind() {
    let mut stage = Stage::new();
    let disabled = Registration::new("device3").disabled();
    stage.registry.rewrite(&[stage.device1.clone(), stage.device2.clone(), disabled.clone()]);
    let good = Connect::of(&stage.device1);
    let with = |username: &str, password: &str| Connect {
        username: Some(username.to_owned()),
        password: Some(password.to_owned()),
        ..good.clone()
    };
    let at = |timestamp| {
        let credentials = stage.device1.credentials_at(timestamp);
        with(&credentials.username, &credentials.password)
    };
    let username = good.username.clone().unwrap();
    let (secure_id, timestamp) = username.split_once('|').unwrap();
    let signed = |username: &str| with(username, &md5_hex(&format!("{username}|{}", stage.device1.secure_key)));

    let cases = [
        ("wrong password", with(&username, &md5_hex("wrong"))),
        ("empty password", with(&username, "")),
        ("no password", Connect { password: None, ..good.clone() }),
        ("no user name", Connect { username: None, password: None, ..good.clone() }),
        ("past timestamp", at(now_ms() - TIMESTAMP_TOLERANCE - 5_000)),
        ("future timestamp", at(now_ms() + TIMESTAMP_TOLERANCE + 60_000)),
        ("no timestamp", signed(secure_id)),
        ("timestamp no number", signed(&format!("{secure_id}|today"))),
        ("two separators", signed(&format!("{secure_id}|{timestamp}|{timestamp}"))),
        ("another secure id", signed(&format!("x{secure_id}|{timestamp}"))),
        ("unknown device", Connect::of(&Registration::new("device9"))),
        ("disabled device", Connect::of(&disabled)),
        ("id of another device", Connect { client_id: "device2".to_owned(), ..good.clone() }),
    ];
    for (what, connect) in cases {
        for version in Version::ALL {
            let mut wire = Wire::open(stage.bridge.mqtt());
            wire.send(&connect.clone().version(version).bytes());
            assert_eq!(wire.next(), Incoming::Packet(connack(4)), "{what} {version:?}");
            assert_eq!(wire.next(), Incoming::Closed, "{what} {version:?}");
        }
    }
    stage.assert_nothing_written();
}

#[test]
fn what_a_refused_device_sends_after_connect_is_not_taken() {
    let mut stage = Stage::new();
    let connect = Connect { password: Some(md5_hex("wrong")), ..Connect::of(&stage.device1) };
    let report = packet::publish(&stage.device1.topic("properties/report"), br#"{"properties":{"t":1}}"#, 1, 1);
    let mut wire = Wire::open(stage.bridge.mqtt());
    wire.send(&[connect.bytes(), report].concat());
    assert_eq!(wire.next_packet(), connack(4));
    wire.wait_closed();
    stage.assert_nothing_written();
}

#[test]
fn a_connection_ends_in_good_order_though_much_of_what_came_is_not_taken() {
    let stage = Stage::new();
    let unread = packet::publish(&stage.device1.topic("tags"), br#"{"tags":{}}"#, 0, 0).repeat(2_000);
    let liar = Registration { secure_key: "wrong".to_owned(), ..stage.device1.clone() };
    let refused = [Connect::of(&liar).bytes(), unread.clone()].concat();
    let broken = [Connect::of(&stage.device1).bytes(), vec![0xf0, 0], unread].concat();
    for (bytes, answer) in [(refused, [0x20, 2, 0, 4]), (broken, [0x20, 2, 0, 0])] {
        let mut stream = wire::dial(stage.bridge.mqtt());
        stream.write_all(&bytes).unwrap();
        let mut received = Vec::new();
        // A connection that is reset may lose the answer on its way to the device.
        stream.read_to_end(&mut received).expect("the end and no reset");
        assert_eq!(received, answer);
    }
}

#[test]
fn a_password_may_be_upper_case_and_a_timestamp_nearly_five_minutes_off() {
    let stage = Stage::new();
    for off in [-TIMESTAMP_TOLERANCE + 60_000, TIMESTAMP_TOLERANCE - 5_000] {
        let credentials = stage.device1.credentials_at(now_ms() + off);
        let password = Some(credentials.password.to_uppercase());
        let connect = Connect { username: Some(credentials.username), password, ..Connect::of(&stage.device1) };
        drop(Wire::connect_as(stage.bridge.mqtt(), &connect));
    }
}

#[test]
fn another_protocol_level_is_refused_as_such() {
    let mut stage = Stage::new();
    for level in [0, 2, 5, 6, 255] {
        let connect = Connect { level, ..Connect::of(&stage.device1) };
        let mut wire = Wire::open(stage.bridge.mqtt());
        wire.send(&connect.bytes());
        assert_eq!(wire.next_packet(), connack(1), "level {level}");
        wire.wait_closed();
    }
    stage.assert_nothing_written();
}

#[test]
fn an_empty_client_id_is_refused_as_such() {
    let mut stage = Stage::new();
    for version in Version::ALL {
        let connect = Connect { client_id: String::new(), ..Connect::of(&stage.device1).version(version) };
        let mut wire = Wire::open(stage.bridge.mqtt());
        wire.send(&connect.bytes());
        assert_eq!(wire.next_packet(), connack(2), "{version:?}");
        wire.wait_closed();
    }
    stage.assert_nothing_written();
}

#[test]
fn connack_never_says_that_a_session_is_present() {
    let mut stage = Stage::new();
    let connect = Connect { clean: false, ..Connect::of(&stage.device1) };
    for _ in 0..2 {
        let mut wire = Wire::open(stage.bridge.mqtt());
        wire.send(&connect.bytes());
        assert_eq!(wire.next_packet(), connack(0));
        wire.send(&packet::DISCONNECT);
        wire.wait_closed();
        stage.bridge.expect("device.online", "device1");
        stage.bridge.expect("device.offline", "device1");
    }
}

#[test]
fn one_connection_over_the_limit_is_told_that_the_server_is_unavailable() {
    let mut stage = Stage::with(|settings| settings.toml("limits.connections", "1"));
    let mut first = stage.connect1();
    let mut second = Wire::open(stage.bridge.mqtt());
    second.send(&Connect::of(&stage.device2).bytes());
    assert_eq!(second.next_packet(), connack(3));
    second.wait_closed();

    first.send(&packet::DISCONNECT);
    first.wait_closed();
    stage.bridge.expect("device.offline", "device1");
    stage.assert_nothing_written();
}

#[test]
fn a_connection_that_never_says_connect_is_closed() {
    let mut stage = Stage::with(|settings| settings.text("mqtt.connect_timeout", "5s"));
    let mut silent = Wire::open(stage.bridge.mqtt());
    let mut halfway = Wire::open(stage.bridge.mqtt());
    halfway.send(&Connect::of(&stage.device1).bytes()[..10]);
    silent.wait_closed();
    halfway.wait_closed();
    stage.assert_nothing_written();
}

#[test]
fn a_device_that_the_file_gains_is_let_in_without_a_restart() {
    let mut stage = Stage::new();
    let device3 = Registration::new("device3");
    stage.registry.rewrite(&[stage.device1.clone(), stage.device2.clone(), device3.clone()]);
    let wire = eventually("device3 is let in", PATIENCE, || {
        let mut wire = Wire::open(stage.bridge.mqtt());
        wire.send(&Connect::of(&device3).bytes());
        (wire.next_packet() == connack(0)).then_some(wire)
    });
    stage.bridge.expect("device.online", "device3");
    drop(wire);
    stage.bridge.expect("device.offline", "device3");
}

#[test]
fn a_product_secret_opens_only_where_it_is_switched_on() {
    let device = Registration {
        secure_id: "shared".to_owned(),
        secure_key: "sharedkey".to_owned(),
        ..Registration::new("device5")
    };
    let file = "[[product]]\nid = \"product1\"\nsecure_id = \"shared\"\nsecure_key = \"sharedkey\"\n\
                [[device]]\nid = \"device5\"\nproduct = \"product1\"\n";
    for (switched_on, code) in [("false", 4), ("true", 0)] {
        let registry = Registry::new(&[]);
        std::fs::write(registry.path(), file).unwrap();
        let settings = crate::Settings::stdio(&registry).toml("registry.product_secrets", switched_on);
        let bridge = crate::Bridge::start(&settings);
        let mut wire = Wire::open(bridge.mqtt());
        wire.send(&Connect::of(&device).bytes());
        assert_eq!(wire.next_packet(), connack(code), "product_secrets = {switched_on}");
    }
}

#[test]
fn a_device_that_connects_and_leaves_without_end_is_let_in_once_a_second_and_others_as_always() {
    const AT_ONCE: u64 = 60;
    let mut stage = Stage::new();
    let connect = Connect::of(&stage.device1).bytes();
    let begin = Instant::now();
    let mut accepted = 0;
    loop {
        let mut wire = Wire::open(stage.bridge.mqtt());
        wire.send(&connect);
        let answer = wire.next_packet();
        if answer != connack(0) {
            assert_eq!(answer, connack(3));
            wire.wait_closed();
            break;
        }
        accepted += 1;
        wire.send(&packet::DISCONNECT);
        wire.wait_closed();
        assert!(accepted <= AT_ONCE + begin.elapsed().as_secs() + 1, "{accepted} were accepted");
    }
    assert!(accepted >= AT_ONCE, "{accepted} were accepted");
    for _ in 0..accepted {
        stage.bridge.expect("device.online", "device1");
        stage.bridge.expect("device.offline", "device1");
    }
    stage.assert_nothing_written();
    eventually("the device is let in again", PATIENCE, || {
        let mut wire = Wire::open(stage.bridge.mqtt());
        wire.send(&connect);
        (wire.next_packet() == connack(0)).then_some(())
    });
}
