//! MQTT over TLS.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use openssl::ssl::{SslFiletype, SslVersion};

use crate::support::wire::{dial, dial_tls};
use crate::support::{Bridge, Certificate, Connect, Packet, Registration, Registry, Settings, Wire, eventually, wait};

const PATIENCE: Duration = Duration::from_secs(60);

fn settings(registry: &Registry, certificate: &Certificate) -> Settings {
    Settings::stdio(registry)
        .text("mqtt.tls.listen", "127.0.0.1:0")
        .text("mqtt.tls.certificate", &certificate.path())
        .text("mqtt.tls.private_key", &certificate.key_path())
}

#[test]
fn a_device_reports_and_is_commanded_over_either_version_of_tls() {
    let (registry, devices) = Registry::numbered(1);
    for certificate in [Certificate::elliptic(), Certificate::rsa()] {
        let mut bridge = Bridge::start(&settings(&registry, &certificate));
        for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
            let tls = dial_tls(bridge.listener("mqtt.tls"), &certificate, |connector| {
                connector.set_min_proto_version(Some(version)).unwrap();
                connector.set_max_proto_version(Some(version)).unwrap();
            });
            let mut wire = Wire::connect_over(tls.unwrap(), &devices[0]);
            bridge.expect("device.online", "device1");
            wire.publish_acknowledged(&devices[0].topic("tags"), r#"{"tags":{}}"#, 1);
            bridge.expect("device.tags", "device1");
            assert_eq!(bridge.metric("jetlinks_bridge_connections", &["mqtt_tls"]), 1.0);
            bridge.type_line(
                r#"{"messageType":"READ_PROPERTY","messageId":"m1","productId":"product1","deviceId":"device1","properties":["a"]}"#,
            );
            let command = wire.next_publish();
            wire.reply(&command, r#""properties":{"a":1}"#);
            assert_eq!(bridge.expect("device.properties.read.reply", "device1")["correlationid"], "m1");
            wire.send(&[0xe0, 0]);
            wire.wait_closed();
            bridge.expect("device.offline", "device1");
        }
    }
}

#[test]
fn large_messages_and_many_at_once_come_through_whole() {
    let (registry, devices) = Registry::numbered(1);
    let certificate = Certificate::elliptic();
    let mut bridge = Bridge::start(&settings(&registry, &certificate));
    let tls = dial_tls(bridge.listener("mqtt.tls"), &certificate, |_| {}).unwrap();
    let mut wire = Wire::connect_over(tls, &devices[0]);
    bridge.expect("device.online", "device1");
    let large = format!(r#"{{"data":"{}"}}"#, "x".repeat(200_000));
    wire.publish_acknowledged(&devices[0].topic("event/large"), &large, 1);
    assert_eq!(bridge.expect("device.event", "device1")["data"]["data"].as_str().unwrap().len(), 200_000);
    for number in 0..500 {
        wire.publish(&devices[0].topic("event/e"), &format!(r#"{{"data":{number}}}"#), 1, number + 1);
    }
    for number in 0..500 {
        assert_eq!(wire.next_packet(), Packet::answer(crate::support::packet::PUBACK, number + 1));
        assert_eq!(bridge.expect("device.event", "device1")["data"]["data"], number);
    }
}

#[test]
fn with_an_authority_a_device_must_show_a_certificate_that_names_it() {
    let (registry, devices) = Registry::numbered(1);
    let (server, authority, stranger) = (Certificate::elliptic(), Certificate::elliptic(), Certificate::elliptic());
    let mut bridge = Bridge::start(&settings(&registry, &server).text("mqtt.tls.client_ca", &authority.path()));
    let address = bridge.listener("mqtt.tls");
    // TLS 1.3 tells a client only after its handshake that it is refused: at its first read.
    let enter = |client: Option<&Certificate>| {
        let tls = dial_tls(address, &server, |connector| {
            if let Some(client) = client {
                connector.set_certificate_file(client.path(), SslFiletype::PEM).unwrap();
                connector.set_private_key_file(client.key_path(), SslFiletype::PEM).unwrap();
            }
        });
        let mut tls = tls.ok()?;
        tls.write_all(&Connect::of(&devices[0]).bytes()).ok()?;
        let mut answer = [0; 4];
        tls.read_exact(&mut answer).ok().map(|()| answer[3])
    };
    let named = [authority.sign("device1", &[]), authority.sign("somebody", &["other", "device1"])];
    for certificate in &named {
        assert_eq!(enter(Some(certificate)), Some(0));
        bridge.expect("device.online", "device1");
        bridge.expect("device.offline", "device1");
    }
    for other in [authority.sign("device2", &["device2"]), authority.sign("device1.example", &["*"])] {
        assert_eq!(enter(Some(&other)), Some(4), "the certificate names another device");
    }
    // Answers come before they are counted.
    let counted = |outcome: &str, count: f64| {
        eventually(&format!("{count} {outcome}"), PATIENCE, || {
            (bridge.metric("jetlinks_bridge_connects_total", &[outcome]) == count).then_some(())
        });
    };
    counted("wrong_certificate", 2.0);
    assert_eq!(enter(None), None, "without a certificate");
    assert_eq!(enter(Some(&stranger.sign("device1", &[]))), None, "signed by another authority");
    counted("tls_handshake", 2.0);
}

#[test]
fn what_is_no_tls_is_closed_and_harms_nobody() {
    let (registry, devices) = Registry::numbered(1);
    let certificate = Certificate::elliptic();
    let settings = settings(&registry, &certificate).text("mqtt.connect_timeout", "5s");
    let bridge = Bridge::start(&settings);
    let address = bridge.listener("mqtt.tls");
    let mut plain = Wire::open(address);
    plain.send(&Connect::of(&devices[0]).bytes());
    plain.read_to_end();
    // A record that claims to be a handshake and never ends: cut off long before it is large.
    let mut endless = dial(address);
    let record = [&[0x16, 3, 1, 0x40, 0][..], &[1, 0, 0xff, 0xff], &vec![0; 0x4000 - 4]].concat();
    let mut sent = 0;
    while endless.write_all(&record).is_ok() {
        sent += record.len();
        assert!(sent < 16 << 20, "the bridge takes a handshake without end");
    }
    let mut silent = dial(address);
    let mut byte = [0];
    assert!(matches!(silent.read(&mut byte), Ok(0) | Err(_)), "nothing is sent, and the end comes");
    let tls = dial_tls(address, &certificate, |_| {}).unwrap();
    drop(Wire::connect_over(tls, &devices[0]));
    eventually("the connections are counted out", PATIENCE, || {
        (bridge.metric("jetlinks_bridge_connections", &["mqtt_tls"]) == 0.0).then_some(())
    });
}

#[test]
fn a_proxy_tells_the_address_before_the_handshake() {
    let (registry, devices) = Registry::numbered(1);
    let certificate = Certificate::elliptic();
    let settings = settings(&registry, &certificate).toml("mqtt.proxy_protocol_from", r#"["127.0.0.1"]"#);
    let mut bridge = Bridge::start(&settings);
    let mut tcp = dial(bridge.listener("mqtt.tls"));
    tcp.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 8883\r\n").unwrap();
    let mut connector = openssl::ssl::SslConnector::builder(openssl::ssl::SslMethod::tls_client()).unwrap();
    connector.set_ca_file(certificate.path()).unwrap();
    let tls = connector.build().connect("localhost", tcp).unwrap();
    let _wire = Wire::connect_over(tls, &devices[0]);
    let online = bridge.expect("device.online", "device1");
    assert_eq!(online["data"]["headers"]["cliAddr"], "192.0.2.7:56324");
}

#[test]
fn a_wrong_password_is_told_over_tls_too() {
    let (registry, devices) = Registry::numbered(1);
    let certificate = Certificate::elliptic();
    let bridge = Bridge::start(&settings(&registry, &certificate));
    let liar = Registration { secure_key: "wrong".to_owned(), ..devices[0].clone() };
    let mut wire = Wire::over(dial_tls(bridge.listener("mqtt.tls"), &certificate, |_| {}).unwrap());
    wire.send(&Connect::of(&liar).bytes());
    assert_eq!(wire.next_packet(), Packet { header: 0x20, body: vec![0, 4] });
    wire.wait_closed();
}

/// A connection whose device does not read may take 2 s for its end, and after a takeover no time at all.
const AT_ONCE: Duration = Duration::from_millis(1_500);

#[test]
fn a_device_that_does_not_read_keeps_no_takeover_waiting() {
    wait::soon_once("the connection of a device that does not read ends", AT_ONCE, take_over_unread);
}

fn take_over_unread() -> Duration {
    let (registry, devices) = Registry::numbered(1);
    let certificate = Certificate::elliptic();
    let mut bridge = Bridge::start(&settings(&registry, &certificate));
    let address = bridge.listener("mqtt.tls");
    let mut older = Wire::connect_over(dial_tls(address, &certificate, |_| {}).unwrap(), &devices[0]);
    bridge.expect("device.online", "device1");
    // Commands until the bridge cannot get rid of them any more.
    let input = "x".repeat(100_000);
    loop {
        bridge.type_line(&format!(
            r#"{{"messageType":"INVOKE_FUNCTION","productId":"product1","deviceId":"device1","functionId":"f","inputs":{{"a":"{input}"}},"headers":{{"sendAndForget":true}}}}"#
        ));
        let outcome = bridge.expect("device.function.invoke.reply", "device1");
        if outcome["data"]["code"] == "SYSTEM_BUSY" {
            break;
        }
    }
    let _newer = Wire::connect_over(dial_tls(address, &certificate, |_| {}).unwrap(), &devices[0]);
    let begin = Instant::now();
    eventually("the older connection is closed", PATIENCE, || {
        (bridge.metric("jetlinks_bridge_connections", &["mqtt_tls"]) == 1.0).then_some(())
    });
    let took = begin.elapsed();
    older.read_to_end();
    took
}
