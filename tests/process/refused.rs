//! Refused connections and requests: what the log says of them, in the words of the metrics and in numbers.

use std::time::Duration;

use jetlinks_bridge::codec::coap::{Code, MessageBuilder, option};
use jetlinks_bridge::protocol::cipher;
use jetlinks_bridge::session::coap::sign_token_request;

use crate::Stage;
use crate::support::bridge::wait_for_log;
use crate::support::registry::{md5_hex, now_ms};
use crate::support::wire::Incoming;
use crate::support::{
    Bridge, Certificate, CoapDevice, Connect, Registration, Registry, Settings, Version, Wire, eventually,
};

/// Takes an answer, if there is one, and the end of the connection.
fn wait_refused(wire: &mut Wire) {
    while let Incoming::Packet(_) = wire.next() {}
}

/// Connects in vain; the line that says why.
fn refused(stage: &Stage, connect: &Connect, texts: &[&str]) -> String {
    let mut wire = Wire::open(stage.bridge.mqtt());
    let peer = format!("peer=\"{}\"", wire.local_address());
    wire.send(&connect.bytes());
    wait_refused(&mut wire);
    let line = wait_for_log(&stage.bridge, &["DEBUG", "connection refused", &peer]);
    for text in texts {
        assert!(line.contains(text), "{text}: {line}");
    }
    line
}

#[test]
fn the_log_says_in_words_and_numbers_why_a_connection_is_refused() {
    let stage = Stage::with(|settings| settings.text("log.level", "debug"));
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
    let key = &stage.device1.secure_key;
    let (secure_id, timestamp) = username.split_once('|').unwrap();

    let line =
        refused(&stage, &at(now_ms() - 400_000), &["device=\"device1\"", "reason=\"stale_timestamp\"", "is behind"]);
    assert!(line.contains("clock_off=\"-400 s\"") || line.contains("clock_off=\"-401 s\""), "{line}");
    let seconds = "the timestamp looks like seconds instead of milliseconds";
    refused(&stage, &at(now_ms() / 1000), &["reason=\"stale_timestamp\"", seconds]);
    let other_order = md5_hex(&format!("{timestamp}|{secure_id}|{key}"));
    refused(&stage, &with(&username, &other_order), &["reason=\"wrong_credentials\"", "in another order"]);
    refused(&stage, &with(&username, key), &["reason=\"wrong_credentials\"", "the secureKey itself"]);
    let other_key = md5_hex(&format!("{username}|another"));
    refused(&stage, &with(&username, &other_key), &["reason=\"wrong_credentials\"", "the secureKey is another one"]);
    refused(
        &stage,
        &with(&format!("x{username}"), key),
        &["reason=\"wrong_credentials\"", "the secureId in the user name"],
    );
    refused(&stage, &with(secure_id, key), &["reason=\"malformed_credentials\"", "it has no |"]);
    let nothing = Connect { username: None, password: None, ..good.clone() };
    refused(&stage, &nothing, &["reason=\"malformed_credentials\"", "neither user name nor password"]);
    let stranger = Connect::of(&Registration::new("device9"));
    refused(&stage, &stranger, &["device=\"device9\"", "reason=\"unknown_device\"", "knows no device"]);
    refused(&stage, &Connect { level: 5, ..good.clone() }, &["reason=\"unsupported_version\"", "such as MQTT 5"]);
    refused(
        &stage,
        &Connect { client_id: String::new(), ..good.clone() },
        &["reason=\"empty_client_id\"", "device id"],
    );
    // The registry is read again after a moment.
    eventually("the device is disabled", Duration::from_secs(60), || {
        let line = refused(&stage, &Connect::of(&disabled), &["device=\"device3\""]);
        line.contains("reason=\"disabled\"").then_some(())
    });
    assert!(!stage.bridge.log().contains(key.as_str()), "a key is in the log");
}

#[test]
fn the_log_says_which_protocol_a_client_speaks_that_is_none_of_the_listener() {
    let stage = Stage::with(|settings| settings.text("log.level", "debug"));
    for (bytes, text) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], "the client speaks TLS"),
        (b"GET /mqtt HTTP/1.1\r\n\r\n", "the client speaks HTTP"),
        (b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n", "mqtt.proxy_protocol_from"),
        (b"\xff\xff", "no well-formed CONNECT"),
    ] {
        let mut wire = Wire::open(stage.bridge.mqtt());
        let peer = format!("peer=\"{}\"", wire.local_address());
        wire.send_regardless(bytes);
        wait_refused(&mut wire);
        let line = wait_for_log(&stage.bridge, &["connection refused", &peer, "reason=\"malformed\""]);
        assert!(line.contains(text), "{text}: {line}");
    }
}

#[test]
fn at_info_a_product_whose_devices_are_refused_is_named_once_a_minute_with_an_example() {
    let stage = Stage::new();
    for _ in 0..20 {
        let credentials = stage.device1.credentials_at(now_ms() / 1000);
        let (username, password) = (Some(credentials.username), Some(credentials.password));
        let connect = Connect { username, password, ..Connect::of(&stage.device1) };
        let mut wire = Wire::open(stage.bridge.mqtt());
        wire.send(&connect.bytes());
        wait_refused(&mut wire);
    }
    let mut stranger = Wire::open(stage.bridge.mqtt());
    stranger.send(&Connect::of(&Registration::new("device9")).bytes());
    wait_refused(&mut stranger);
    let about = ["WARN", "devices of a product are refused", "product=product1", "reason=\"stale_timestamp\""];
    let line = wait_for_log(&stage.bridge, &about);
    let wanted = ["device=\"device1\"", "peer=\"127.0.0.1:", "looks like seconds", "count="];
    assert!(wanted.iter().all(|text| line.contains(text)), "{line}");
    let line = wait_for_log(&stage.bridge, &["INFO", "clients that are no known device are refused", "device9"]);
    assert!(line.contains("reason=\"unknown_device\""), "{line}");
    assert_eq!(stage.bridge.log().matches(about[1]).count(), 1);
    assert!(!stage.bridge.log().contains("connection refused"), "each of them is for debug");
}

/// Asks in vain; the answer tells nothing.
fn ask(device: &mut CoapDevice, draft: &MessageBuilder) {
    let answer = device.request(draft);
    assert_eq!(answer.code(), Code::UNAUTHORIZED, "{answer:?}");
    assert!(b"not authenticated".starts_with(answer.payload()), "{answer:?}");
}

#[test]
fn the_log_says_of_coap_and_dtls_what_it_says_of_mqtt() {
    let devices = [Registration::encrypting("device1"), Registration::new("device2")];
    let registry = Registry::new(&devices);
    let certificate = Certificate::elliptic();
    let bridge = Bridge::start(&Settings::stdio(&registry).coap(&certificate).text("log.level", "debug"));
    let mut plain = CoapDevice::plain(bridge.listener("coap"));
    let peer = format!("peer=\"{}\"", plain.address());
    let path = devices[0].topic("properties/report");
    let refused = |texts: &[&str]| wait_for_log(&bridge, &[&["DEBUG", "request refused"], texts].concat());

    let as_it_is = plain.post("device1", &path).payload(br#"{"properties":{"temp":1}}"#);
    ask(&mut plain, &as_it_is);
    refused(&[&peer, "device=\"device1\"", "reason=\"undecryptable\"", "the body is JSON as it is"]);
    let other_key = plain.post("device1", &path).payload(&cipher::encrypt(b"0123456789ABCDEF", b"{}"));
    ask(&mut plain, &other_key);
    refused(&[&peer, "another key, mode (AES-128 in ECB)"]);
    let stranger = plain.post("device9", &path).payload(b"x");
    ask(&mut plain, &stranger);
    refused(&[&peer, "device=\"device9\"", "reason=\"unknown_device\""]);
    let short_key = plain.post("device2", &devices[1].topic("tags")).payload(b"x");
    ask(&mut plain, &short_key);
    wait_for_log(&bridge, &["WARN", &peer, "device=\"device2\"", "its secureKey has not 16 bytes"]);

    let mut secured = CoapDevice::dtls(bridge.listener("dtls"));
    let mut ask_for_token = |timestamp: i64, signature: &dyn Fn(&[u8]) -> Vec<u8>| {
        let payload = format!("{{\"timestamp\":\"{timestamp}\"}}");
        let request = secured.post("device1", "/auth").option(option::SIGNATURE, &signature(payload.as_bytes()));
        ask(&mut secured, &request.payload(payload.as_bytes()));
    };
    let right = |payload: &[u8]| sign_token_request(payload, &devices[0].secure_key).to_vec();
    ask_for_token(now_ms() - 400_500, &right);
    refused(&["peer=\"DTLS session ", "reason=\"stale_timestamp\"", "clock_off=\"-40"]);
    ask_for_token(now_ms() / 1000, &right);
    refused(&["reason=\"stale_timestamp\"", "looks like seconds"]);
    ask_for_token(now_ms(), &|_: &[u8]| b"x".to_vec());
    refused(&["reason=\"wrong_signature\"", "not the 32 hex digits"]);
    assert!(!bridge.log().contains(&devices[0].secure_key), "a key is in the log");
    wait_for_log(&bridge, &["WARN", "devices of a product are refused", "product=product1"]);
}

#[test]
fn the_log_says_what_is_wrong_with_a_rejected_message() {
    for version in Version::ALL {
        let stage = Stage::with(|settings| settings.text("log.level", "debug"));
        let mut wire = Wire::connect_as(stage.bridge.mqtt(), &Connect::of(&stage.device1).version(version));
        wire.publish_acknowledged(&stage.device1.topic("properties/report"), "{", 1);
        wire.publish_acknowledged(&stage.device1.topic("property/report"), "{}", 2);
        for (reason, detail) in [("undecodable", "byte 1"), ("unknown_topic", "devices send no message on this topic")]
        {
            let reason = format!("reason=\"{reason}\"");
            wait_for_log(&stage.bridge, &["DEBUG", "a message was rejected", &reason, "detail=\"", detail]);
        }
        wait_for_log(
            &stage.bridge,
            &["WARN", "messages of a product are rejected", "topic=\"/product1/device1", "detail=\""],
        );
    }
}
