//! CoAP, encrypted or over DTLS: raw datagrams in, envelopes out.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use jetlinks_bridge::codec::coap::{Block, Code, Kind, MessageBuilder, MessageToken, decode, empty, option};
use jetlinks_bridge::protocol::cipher;

use crate::relay::Relay;
use crate::support::port;
use crate::support::{Bridge, Certificate, CoapDevice, Registration, Registry, Settings, eventually};

const PATIENCE: Duration = Duration::from_secs(60);
const REPORT: &str = r#"{"properties":{"temperature":36.8}}"#;

fn devices(count: usize) -> (Registry, Vec<Registration>) {
    let devices: Vec<_> = (1..=count).map(|number| Registration::encrypting(&format!("device{number}"))).collect();
    (Registry::new(&devices), devices)
}

#[test]
fn every_worker_answers_on_the_same_ports() {
    let (registry, devices) = devices(1);
    let certificate = Certificate::elliptic();
    let mut bridge = Bridge::start(&Settings::stdio(&registry).coap(&certificate).toml("runtime.workers", "3"));
    for _ in 0..12 {
        let mut plain = CoapDevice::plain(bridge.listener("coap"));
        let request = plain.encrypted(&devices[0], "properties/report", REPORT);
        assert_eq!(plain.request(&request).code(), Code::CREATED);
        bridge.expect("device.properties.report", "device1");
        let mut secured = CoapDevice::dtls(bridge.listener("dtls"));
        let token = secured.token(&devices[0]);
        let request = secured.with_token(&devices[0], &token, "properties/report", REPORT);
        assert_eq!(secured.request(&request).code(), Code::CREATED);
        bridge.expect("device.properties.report", "device1");
    }
}

#[test]
fn a_queue_that_is_away_is_answered_with_the_time_to_come_again() {
    let (registry, devices) = devices(1);
    let certificate = Certificate::elliptic();
    let nobody = format!("[\"nats://127.0.0.1:{}\"]", port::free_port());
    let settings = Settings::stdio(&registry).coap(&certificate).text("uplink.queue", "nats");
    let bridge = Bridge::start_unready(&settings.text("commands.queue", "none").toml("nats.servers", &nobody));
    let mut plain = CoapDevice::plain(bridge.listener("coap"));
    let request = plain.encrypted(&devices[0], "properties/report", REPORT);
    let answer = plain.request(&request);
    assert_eq!((answer.code(), answer.uint(option::MAX_AGE)), (Code::SERVICE_UNAVAILABLE, Some(5)));
    let mut secured = CoapDevice::dtls(bridge.listener("dtls"));
    assert_eq!(secured.authenticate(&devices[0]).code(), Code::SERVICE_UNAVAILABLE);
}

#[test]
fn a_token_of_one_replica_holds_on_another_with_the_same_secret_and_on_no_other() {
    let (registry, devices) = devices(1);
    let certificate = Certificate::elliptic();
    let settings = Settings::stdio(&registry).coap(&certificate);
    let first = Bridge::start(&settings);
    let mut second = Bridge::start(
        &settings.clone().toml("dtls.token_secret", r#"["the-secret-after-it", "secret-of-the-tokens"]"#),
    );
    let third = Bridge::start(&settings.text("dtls.token_secret", "another-secret-of-it"));
    let token = CoapDevice::dtls(first.listener("dtls")).token(&devices[0]);
    let mut device = CoapDevice::dtls(second.listener("dtls"));
    let request = device.with_token(&devices[0], &token, "properties/report", REPORT);
    assert_eq!(device.request(&request).code(), Code::CREATED);
    second.expect("device.properties.report", "device1");
    let mut device = CoapDevice::dtls(third.listener("dtls"));
    let request = device.with_token(&devices[0], &token, "properties/report", REPORT);
    assert_eq!(device.request(&request).code(), Code::UNAUTHORIZED);
}

#[test]
fn a_token_ends_when_its_device_gets_another_key() {
    let (registry, devices) = devices(1);
    let certificate = Certificate::elliptic();
    let bridge = Bridge::start(&Settings::stdio(&registry).coap(&certificate));
    let mut device = CoapDevice::dtls(bridge.listener("dtls"));
    let token = device.token(&devices[0]);
    registry.rewrite(&[Registration { secure_key: "another-key".to_owned(), ..devices[0].clone() }]);
    eventually("the token has ended", PATIENCE, || {
        let request = device.with_token(&devices[0], &token, "properties/report", REPORT);
        (device.request(&request).code() == Code::UNAUTHORIZED).then_some(())
    });
}

#[test]
fn a_dtls_client_that_was_killed_comes_back_on_its_port() {
    let (registry, devices) = devices(1);
    let certificate = Certificate::elliptic();
    let mut bridge = Bridge::start(&Settings::stdio(&registry).coap(&certificate));
    let server = bridge.listener("dtls");
    // Of no range that another client's port could come from meanwhile.
    let own = SocketAddr::from(([127, 0, 0, 1], port::free_port()));
    for _ in 0..3 {
        let mut device = CoapDevice::dtls_from(own, server);
        let token = device.token(&devices[0]);
        let request = device.with_token(&devices[0], &token, "properties/report", REPORT);
        assert_eq!(device.request(&request).code(), Code::CREATED);
        bridge.expect("device.properties.report", "device1");
        // Dropped without a word, as a killed client is.
    }
    eventually("one session is left", PATIENCE, || {
        (bridge.metric("jetlinks_bridge_dtls_sessions", &[]) == 1.0).then_some(())
    });
}

#[test]
fn a_shutdown_says_goodbye_to_dtls_sessions_and_ends_well() {
    let (registry, devices) = devices(1);
    let certificate = Certificate::elliptic();
    let mut bridge = Bridge::start(&Settings::stdio(&registry).coap(&certificate));
    let mut device = CoapDevice::dtls(bridge.listener("dtls"));
    device.token(&devices[0]);
    bridge.signal(libc::SIGTERM);
    // The session has ended: what was received is no message, and came before the time was over.
    let begun = Instant::now();
    device.set_patience(PATIENCE);
    assert!(device.receive().is_none() && begun.elapsed() < PATIENCE);
    assert_eq!(bridge.exit_code(), 0, "{}", bridge.log());
}

#[test]
fn direct_without_dtls_is_taken_only_where_it_is_switched_on() {
    let (registry, devices) = devices(1);
    let settings = Settings::stdio(&registry).text("coap.listen", "127.0.0.1:0");
    for (settings, code) in
        [(settings.clone(), Code::METHOD_NOT_ALLOWED), (settings.toml("coap.direct", "true"), Code::CREATED)]
    {
        let mut bridge = Bridge::start(&settings);
        let mut device = CoapDevice::plain(bridge.listener("coap"));
        let request = device.encrypted(&devices[0], "direct", "raw");
        assert_eq!(device.request(&request).code(), code);
        let request = device.encrypted(&devices[0], "properties/report", "raw");
        assert_eq!(device.request(&request).code(), Code::UNAUTHORIZED);
        let request = device.encrypted(&devices[0], "properties/report", REPORT);
        assert_eq!(device.request(&request).code(), Code::CREATED);
        if code == Code::CREATED {
            assert_eq!(bridge.expect("device.direct", "device1")["data"]["payload"], "cmF3");
        }
        bridge.expect("device.properties.report", "device1");
    }
}

#[test]
fn the_log_cuts_the_paths_of_requests() {
    let (registry, devices) = devices(2);
    let settings = Settings::stdio(&registry).text("coap.listen", "127.0.0.1:0").text("log.level", "debug");
    let bridge = Bridge::start(&settings);
    let mut device = CoapDevice::plain(bridge.listener("coap"));
    let path = ["e".repeat(250), "f".repeat(250), "g".repeat(250)].join("/");
    let own = device.encrypted(&devices[0], &format!("event/{path}"), REPORT);
    let foreign = device.encrypted(&Registration { product: path, ..devices[1].clone() }, "event/e", REPORT);
    for (request, message) in [(own, "a message was rejected"), (foreign, "refused")] {
        device.request(&request);
        let line = eventually("it is logged", PATIENCE, || {
            bridge.log().lines().find(|line| line.contains(message)).map(str::to_owned)
        });
        assert!(line.contains(&"e".repeat(250)) && !line.contains(&"g".repeat(100)), "{line}");
    }
}

#[test]
fn a_ping_is_reset_and_noise_is_counted() {
    let (registry, _) = devices(1);
    let bridge = Bridge::start(&Settings::stdio(&registry).text("coap.listen", "127.0.0.1:0"));
    let mut device = CoapDevice::plain(bridge.listener("coap"));
    device.send(b"");
    device.send(b"noise");
    device.send(&empty(Kind::Confirmable, 77));
    let answer = device.receive().unwrap();
    assert_eq!((answer.kind(), answer.id()), (Kind::Reset, 77));
    assert_eq!(bridge.metric("jetlinks_bridge_coap_noise_total", &[]), 2.0);
}

/// Sends `count` reports, one after the other and each until it is confirmed; their message ids.
fn report_stubbornly(
    device: &mut CoapDevice,
    registration: &Registration,
    token: Option<&str>,
    count: usize,
) -> Vec<String> {
    let mut confirmed = Vec::new();
    for number in 0..count {
        let name = format!("{}-{number}", registration.id);
        let json = format!(r#"{{"messageId":"{name}","properties":{{"n":{number}}}}}"#);
        let request = match token {
            None => device.encrypted(registration, "properties/report", &json),
            Some(token) => device.with_token(registration, token, "properties/report", &json),
        };
        let datagram = request.encode();
        let own: MessageToken = decode(&datagram).unwrap().token();
        eventually(&format!("{name} is confirmed"), PATIENCE, || {
            device.send(&datagram);
            while let Some(answer) = device.receive() {
                if answer.kind() == Kind::Confirmable {
                    device.send(&empty(Kind::Acknowledgement, answer.id()));
                }
                if answer.token() == own && answer.code() != Code::EMPTY {
                    assert_eq!(answer.code(), Code::CREATED, "{name}");
                    return Some(());
                }
            }
            None
        });
        confirmed.push(name);
    }
    confirmed
}

#[test]
fn every_confirmed_message_is_written_once_whatever_the_way_loses_doubles_and_reorders() {
    const DEVICES: usize = 6;
    const REPORTS: usize = 60;
    let (registry, devices) = devices(DEVICES);
    let certificate = Certificate::elliptic();
    let mut bridge = Bridge::start(&Settings::stdio(&registry).coap(&certificate));
    let seed = u64::from(std::process::id()) << 32 | 0x9e37_79b9;
    println!("seed {seed:#x}");
    let (coap, dtls) = (bridge.listener("coap"), bridge.listener("dtls"));
    let threads: Vec<_> = (0..)
        .zip(devices)
        .map(|(number, registration)| {
            thread::spawn(move || {
                let secured = number % 2 == 1;
                let relay = Relay::new(if secured { dtls } else { coap }, seed.wrapping_mul(2 * number + 3));
                let mut device = match secured {
                    true => CoapDevice::dtls(relay.address()),
                    false => CoapDevice::plain(relay.address()),
                };
                let token = secured.then(|| device.token(&registration));
                relay.lose();
                device.set_patience(Duration::from_millis(60));
                report_stubbornly(&mut device, &registration, token.as_deref(), REPORTS)
            })
        })
        .collect();
    let confirmed: Vec<String> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert_eq!(confirmed.len(), DEVICES * REPORTS);
    bridge.signal(libc::SIGTERM);
    let mut written: HashMap<String, usize> = HashMap::new();
    for envelope in bridge.remaining_envelopes() {
        *written.entry(envelope["data"]["messageId"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    for name in &confirmed {
        assert_eq!(written.get(name), Some(&1), "{name}");
    }
    assert_eq!(bridge.exit_code(), 0);
}

/// A CON of a device that begins with the same message id and token each time it starts.
fn restarting(device: &Registration, id: u16, suffix: &str) -> MessageBuilder {
    let token = MessageToken::new(&[1]).unwrap();
    let draft = MessageBuilder::new(Kind::Confirmable, Code::POST, id, token).path(&device.topic(suffix));
    draft.option(option::DEVICE_ID, device.id.as_bytes())
}

fn encrypt(device: &Registration, json: &str) -> Vec<u8> {
    cipher::encrypt(cipher::key(&device.secure_key).unwrap(), json.as_bytes())
}

#[test]
fn a_device_that_sleeps_and_begins_with_message_id_1_each_time_is_written_each_time() {
    let (registry, devices) = devices(1);
    let mut bridge = Bridge::start(&Settings::stdio(&registry).text("coap.listen", "127.0.0.1:0"));
    let mut device = CoapDevice::plain(bridge.listener("coap"));
    for start in 1..=5 {
        let body = encrypt(&devices[0], &format!(r#"{{"properties":{{"start":{start}}}}}"#));
        let request = restarting(&devices[0], 1, "properties/report").payload(&body);
        for _ in 0..2 {
            assert_eq!(device.request(&request).code(), Code::CREATED);
        }
        let envelope = bridge.expect("device.properties.report", "device1");
        assert_eq!(envelope["data"]["properties"]["start"], start, "{envelope}");
    }
    assert_eq!(bridge.metric("jetlinks_bridge_coap_duplicates_total", &[]), 5.0);
}

#[test]
fn blocks_from_before_a_power_cut_are_no_part_of_the_body_behind_it() {
    const BLOCK_BYTES: usize = 64;
    let (registry, devices) = devices(1);
    let mut bridge = Bridge::start(&Settings::stdio(&registry).text("coap.listen", "127.0.0.1:0"));
    let mut device = CoapDevice::plain(bridge.listener("coap"));
    let body = |filler: &str| encrypt(&devices[0], &format!(r#"{{"data":"{}"}}"#, filler.repeat(200)));
    let mut send = |body: &[u8], blocks: usize| {
        let all = body.chunks(BLOCK_BYTES).len();
        let codes = body.chunks(BLOCK_BYTES).zip(0..).take(blocks).map(|(bytes, number)| {
            let block = Block { number, more: number as usize + 1 < all, size_exponent: 2 };
            let request = restarting(&devices[0], number as u16 + 1, "event/long");
            device.request(&request.uint(option::BLOCK1, block.to_uint()).payload(bytes)).code()
        });
        codes.collect::<Vec<_>>()
    };
    assert_eq!(send(&body("a"), 2), [Code::CONTINUE; 2]);
    assert_eq!(send(&body("b"), 4), [Code::CONTINUE, Code::CONTINUE, Code::CONTINUE, Code::CREATED]);
    assert_eq!(bridge.expect("device.event", "device1")["data"]["data"], "b".repeat(200));
}
