//! Datagrams without sense, and handshakes that are not gone on with.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use jetlinks_bridge::protocol::random::Random;

use crate::flood::{Beside, Flood, per_second};
use crate::support::bridge::by_build;
use crate::support::coap::{anywhere, socket};
use crate::support::{Bridge, Certificate, CoapDevice, Registration, Registry, Settings, eventually};

const PATIENCE: Duration = Duration::from_secs(60);
const REPORT: &str = r#"{"properties":{"temperature":36.8}}"#;

/// Tolerance of memory when nothing is kept, in bytes.
const FLAT_BYTES: u64 = 8 << 20;

/// Below this two times are the same.
const UNREMARKABLE: Duration = Duration::from_millis(2);

/// Datagrams of one kind in one wave.
const DATAGRAMS: usize = 20_000;

/// Rate of a flood per second, in groups of three datagrams. More than a bridge can read is a queue in the kernel, in which
/// everybody waits; a debug build reads some 20,000 a second.
fn rounds_per_second() -> f64 {
    by_build(5_000.0, 20_000.0)
}

/// Ports that hellos come from.
const PORTS: usize = 1_300;

/// Bytes without sense, the same for the same seed.
struct Noise(Random);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0.draw()
    }

    fn datagram(&mut self) -> Vec<u8> {
        let length = (self.next() >> 20) as usize % 200;
        let mut datagram: Vec<u8> = (0..length).map(|_| (self.next() >> 30) as u8).collect();
        // Half of them look like CoAP, or like DTLS, at first sight.
        match (self.next() >> 40) % 4 {
            0 if length > 0 => datagram[0] = 0x42,
            1 if length > 4 => datagram[..5].copy_from_slice(&[22, 0xfe, 0xfd, 0, 0]),
            _ => {}
        }
        datagram
    }
}

/// The first datagram of a handshake of OpenSSL.
pub(crate) fn hello() -> Vec<u8> {
    let listener = UdpSocket::bind(anywhere()).unwrap();
    let address = listener.local_addr().unwrap();
    let client = thread::spawn(move || CoapDevice::try_dtls_from(anywhere(), address));
    let mut buffer = [0; 2048];
    let (bytes, from) = listener.recv_from(&mut buffer).unwrap();
    // Anything that is no DTLS 1.2 ends the handshake at once.
    let alert = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 40];
    listener.send_to(&alert, from).unwrap();
    drop(client.join().unwrap());
    buffer[..bytes].to_vec()
}

/// Sends a hello with the cookie that the bridge asks for, and another random number for each port; `None` when no cookie came.
pub(crate) fn begin_handshake(from: SocketAddr, server: SocketAddr, hello: &[u8]) -> Option<UdpSocket> {
    let socket = socket(from, server);
    let hello = with_cookie(&socket, hello)?;
    socket.send(&hello).unwrap();
    Some(socket)
}

/// The hello with the cookie that the bridge asks for; `None` when it does not within a while.
pub(crate) fn with_cookie(socket: &UdpSocket, hello: &[u8]) -> Option<Vec<u8>> {
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut hello = hello.to_vec();
    let random = socket.local_addr().unwrap().port().to_be_bytes();
    hello[27..29].copy_from_slice(&random);
    let mut answer = [0; 256];
    socket.send(&hello).unwrap();
    // Under the flood itself an answer may be lost.
    let bytes = socket.recv(&mut answer).ok()?;
    let cookie = &answer[28..bytes];
    // Behind version and random number stands the length of the session id, 0, then that of the cookie.
    let at = 25 + 2 + 32 + 1;
    hello.splice(at..=at, [&[cookie.len() as u8], cookie].concat());
    let record = u16::try_from(hello.len() - 13).unwrap();
    hello[11..13].copy_from_slice(&record.to_be_bytes());
    let [_, high, middle, low] = u32::try_from(hello.len() - 25).unwrap().to_be_bytes();
    for at in [14, 22] {
        hello[at..at + 3].copy_from_slice(&[high, middle, low]);
    }
    // The second message of the handshake, in the second record.
    hello[18] = 1;
    hello[10] = 1;
    Some(hello)
}

/// The median time of an answer.
fn median(device: &mut CoapDevice, registration: &Registration, token: &str) -> Duration {
    let mut times: Vec<Duration> = (0..41)
        .map(|_| {
            let request = device.with_token(registration, token, "properties/report", REPORT).encode();
            let begun = Instant::now();
            device.send(&request);
            while device.receive().is_none() {
                device.send(&request);
            }
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn noise_hellos_and_unfinished_handshakes_cost_no_memory_and_delay_nobody() {
    let registration = Registration::encrypting("device1");
    let registry = Registry::new(std::slice::from_ref(&registration));
    let certificate = Certificate::elliptic();
    let mut bridge = Bridge::start(&Settings::stdio(&registry).coap(&certificate));
    let (coap, dtls) = (bridge.listener("coap"), bridge.listener("dtls"));
    let mut device = CoapDevice::dtls(dtls);
    let token = device.token(&registration);
    device.set_patience(Duration::from_secs(1));
    let normal = median(&mut device, &registration, &token).max(UNREMARKABLE);

    let hello = hello();
    let mut resident = Vec::new();
    for wave in 0..10_u32 {
        let mut noise = Noise(Random::new(wave.into()));
        let senders: Vec<UdpSocket> = (2..10).map(|host| socket(([127, 0, 0, host], 0).into(), coap)).collect();
        let secured: Vec<UdpSocket> = (2..10).map(|host| socket(([127, 0, 0, host], 0).into(), dtls)).collect();
        let many: Vec<UdpSocket> =
            (0..PORTS / 4).map(|number| socket(([127, 0, 1, (number % 200) as u8 + 1], 0).into(), dtls)).collect();
        let first = hello.clone();
        let flood = Flood::start(rounds_per_second(), move |number| {
            // What the bridge has no room for is lost: that is no failure of the flood.
            let datagram = noise.datagram();
            drop(senders[number % senders.len()].send(&datagram));
            drop(secured[number % secured.len()].send(&datagram));
            drop(many[number % many.len()].send(&first));
        });
        let before = bridge.metric("jetlinks_bridge_coap_noise_total", &[]);
        for number in 0..PORTS {
            drop(begin_handshake(([127, 0, 2, (number % 200) as u8 + 1], 0).into(), dtls, &hello));
        }
        eventually("a device is answered within twice its normal time", PATIENCE, || {
            (median(&mut device, &registration, &token) <= 2 * normal).then_some(())
        });
        eventually("the noise was heard", PATIENCE, || {
            (bridge.metric("jetlinks_bridge_coap_noise_total", &[]) - before > DATAGRAMS as f64).then_some(())
        });
        drop(flood);
        eventually("a new device gets its session while handshakes of others are half open", PATIENCE, || {
            CoapDevice::try_dtls_within(anywhere(), dtls, Duration::from_secs(1)).ok()
        });
        resident.push(bridge.process().resident_bytes());
    }
    println!("normal {normal:?}, resident {resident:?}");
    // The first waves fill the room for half-open handshakes, and the allocator fills its holes; then nothing is kept.
    let growth = resident[9].saturating_sub(resident[8]);
    assert!(growth < FLAT_BYTES, "{resident:?} bytes");
    assert!(bridge.metric("jetlinks_bridge_dtls_handshakes_total", &["refused"]) > 0.0, "no bound was reached");
    assert!(bridge.metric("jetlinks_bridge_dtls_cookies_total", &[]) > DATAGRAMS as f64);
}

#[test]
fn datagrams_without_sense_delay_no_device_over_mqtt() {
    let (registry, devices) = Registry::numbered(1);
    let certificate = Certificate::elliptic();
    let bridge = Bridge::start(&Settings::stdio(&registry).coap(&certificate));
    for listener in ["coap", "dtls"] {
        let beside = Beside::start(bridge.mqtt(), &devices[0]);
        let server = bridge.listener(listener);
        let mut noise = Noise(Random::new(0));
        let datagrams: Vec<Vec<u8>> = (0..DATAGRAMS).map(|_| noise.datagram()).collect();
        let senders: Vec<UdpSocket> = (2..10).map(|host| socket(([127, 0, 0, host], 0).into(), server)).collect();
        let flood = Flood::start(by_build(10_000.0, 100_000.0), move |number| {
            drop(senders[number % senders.len()].send(&datagrams[number % datagrams.len()]));
        });
        eventually("the noise is sent", PATIENCE, || (flood.count() > DATAGRAMS).then_some(()));
        beside.bear_strangers(&format!("noise to {listener}"), per_second(|| flood.rate(), "datagrams"), None);
    }
}
