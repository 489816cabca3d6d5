//! Clients without any credential, and what everybody needs: memory, and places for connections.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use jetlinks_bridge::codec::coap::Code;

use crate::datagrams::{begin_handshake, hello};
use crate::flood::{Beside, Flood, per_second};
use crate::support::bridge::by_build;
use crate::support::{Bridge, Certificate, CoapDevice, Registration, Registry, Settings, Wire, eventually};

const PATIENCE: Duration = Duration::from_secs(90);

/// Memory that docs/operations.md counts for a DTLS session, the half-open ones included.
const SESSION_BYTES: u64 = 64 << 10;

/// Tolerance of memory when nothing is kept, in bytes.
const FLAT_BYTES: u64 = 8 << 20;

/// Handshakes of one address; as many may be half open.
const HANDSHAKES: u64 = 256;

/// Addresses of strangers.
fn hosts() -> u8 {
    by_build(3, 4)
}

/// One byte of a handshake message, which has so many.
fn fragment(message: u8, bytes: usize, offset: usize) -> Vec<u8> {
    let number = |number: usize| number.to_be_bytes()[5..].to_vec();
    let record = [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 13].to_vec();
    [record, vec![16], number(bytes), vec![0, message], number(offset), vec![0, 0, 1, 7]].concat()
}

/// A record that looks like Finished.
fn finished() -> Vec<u8> {
    [[22, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 1, 0, 40].to_vec(), vec![7; 40]].concat()
}

/// Everything that is sent to each handshake: as much as a client may send, then what no client needs.
fn attack() -> Vec<Vec<u8>> {
    let needed = (2..6).flat_map(|message| (0..2048).step_by(256).map(move |at| fragment(message, 2048, at)));
    let records = (0..20).map(|_| finished());
    let ahead = |bytes: usize, step: usize| {
        (2..12).flat_map(move |message| (0..bytes).step_by(step).map(move |at| fragment(message, bytes, at)))
    };
    // 16 KiB is the least that OpenSSL can be told to take, 100 KiB what it takes by default.
    let mut datagrams: Vec<_> =
        needed.chain(records).chain(ahead(16_384, 4096)).chain(ahead(102_400, 16_384)).collect();
    // Each record has a number of its own (RFC 6347 section 4.1.2.6), above those of the hellos.
    for (datagram, number) in datagrams.iter_mut().zip(9_u16..) {
        datagram[9..11].copy_from_slice(&number.to_be_bytes());
    }
    datagrams
}

#[test]
fn fragments_of_unauthenticated_peers_take_no_more_memory_than_is_documented_and_it_is_given_back() {
    let (registration, bystander) = (Registration::encrypting("device1"), Registration::new("device2"));
    let registry = Registry::new(&[registration.clone(), bystander.clone()]);
    let certificate = Certificate::elliptic();
    let settings = Settings::stdio(&registry).coap(&certificate).toml("runtime.workers", "1");
    // One network may begin half of them.
    let mut bridge = Bridge::start(&settings.toml("limits.connect_rate", "100000"));
    let dtls = bridge.listener("dtls");
    // What the first handshake takes, it takes once.
    CoapDevice::dtls(dtls).token(&registration);
    let beside = Beside::start(bridge.mqtt(), &bystander);
    let hello = hello();
    let before = bridge.process().resident_bytes();
    let addresses = (1..=hosts()).flat_map(|host| (0..HANDSHAKES).map(move |_| ([127, 0, 3, host], 0).into()));
    let sockets: Vec<UdpSocket> = addresses.filter_map(|address| begin_handshake(address, dtls, &hello)).collect();
    let mut open = eventually("most handshakes are half open", PATIENCE, || {
        let open = bridge.metric("jetlinks_bridge_connections", &["dtls", "opening"]) as u64;
        (open >= u64::from(hosts()) * HANDSHAKES * 9 / 10).then_some(open)
    });
    let (datagrams, ports) = (attack(), sockets.len());
    let all = datagrams.len() * ports;
    let flood = Flood::start(by_build(15_000.0, 75_000.0), move |number| {
        drop(sockets[number % ports].send(&datagrams[number / ports % datagrams.len()]));
    });
    eventually("every handshake was sent everything", PATIENCE, || (flood.count() >= all).then_some(()));
    open = open.max(bridge.metric("jetlinks_bridge_connections", &["dtls", "opening"]) as u64);
    let peak = bridge.process().peak_bytes();
    let each = peak.saturating_sub(before) / open;
    println!("before {before}, peak {peak}, {open} half open, {each} bytes each");
    beside.bear_strangers(&format!("fragments for {open} handshakes"), per_second(|| flood.rate(), "datagrams"), None);
    drop(flood);
    assert!(each <= SESSION_BYTES, "{each} bytes for each of {open} handshakes");
    eventually("the memory is given back", PATIENCE, || {
        (bridge.process().resident_bytes() <= before + FLAT_BYTES).then_some(())
    });
    CoapDevice::dtls(dtls).token(&registration);
}

#[test]
fn silent_dtls_sessions_keep_no_device_out_and_end_after_seconds() {
    const CONNECTIONS: usize = 300;
    let (mqtt, coap) = (Registration::new("device1"), Registration::encrypting("device2"));
    let bystander = Registration::new("device3");
    let registry = Registry::new(&[mqtt.clone(), coap.clone(), bystander.clone()]);
    let certificate = Certificate::elliptic();
    let settings = Settings::stdio(&registry).coap(&certificate).toml("runtime.workers", "1");
    let bridge = Bridge::start(&settings.toml("limits.connections", &(CONNECTIONS + 1).to_string()));
    let beside = Beside::start(bridge.mqtt(), &bystander);
    let dtls = bridge.listener("dtls");
    // One address alone has 256.
    let addresses = (0..CONNECTIONS).map(|number| ([127, 0, 4, (number % 2) as u8 + 1], 0).into());
    let silent: Vec<CoapDevice> = addresses.map(|address| CoapDevice::dtls_from(address, dtls)).collect();
    let sessions = || bridge.metric("jetlinks_bridge_dtls_sessions", &[]) as usize;
    eventually("every place is taken", PATIENCE, || (sessions() == CONNECTIONS).then_some(()));
    let begin = Instant::now();
    let mut wire = Wire::connect(bridge.mqtt(), &mqtt);
    wire.publish_acknowledged(&mqtt.topic("tags"), r#"{"tags":{}}"#, 1);
    // Each place is taken: who had to wait for one would wait as long as those have time who say nothing.
    let served = by_build(None, Some(begin.elapsed()));
    let rate = || format!("{CONNECTIONS} of as many connections");
    beside.bear_strangers("silent sessions of DTLS", rate, served);
    let mut device = CoapDevice::dtls(dtls);
    let token = device.token(&coap);
    eventually("who said nothing is gone", PATIENCE, || (sessions() == 1).then_some(()));
    let ended = bridge.metric("jetlinks_bridge_dtls_unauthenticated_total", &[]) as usize;
    assert_eq!(ended, silent.len());
    let report = device.with_token(&coap, &token, "tags", r#"{"tags":{}}"#);
    assert_eq!(device.request(&report).code(), Code::CREATED);
    wire.publish_acknowledged(&mqtt.topic("tags"), r#"{"tags":{}}"#, 2);
}
