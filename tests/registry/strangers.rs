//! Strangers that ask for devices that there are none of, while the service takes its time.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use jetlinks_bridge::codec::coap::{Code, Draft, Kind, MessageToken, option};

use super::door::{ACCEPTED, PATIENCE, record};
use super::service::{Mood, Service};
use crate::support::coap::{anywhere, socket};
use crate::support::{Bridge, CoapDevice, Connect, Registration, Registry, Settings, Wire, eventually};

/// How long the service takes for each answer: with 64 at once it gives some 210 a second.
const SLOW: Duration = Duration::from_millis(300);

/// How often a stranger asks, each time for another id.
const PER_SECOND: f64 = 600.0;

/// Connections that a stranger keeps open.
const CONNECTIONS: usize = 400;

/// How long a device may wait that is not in the cache.
const BOUND: Duration = Duration::from_secs(1);

const REPORT: &str = r#"{"properties":{"temperature":36.8}}"#;

fn start(service: &Service, cache_ttl: &str) -> Bridge {
    let (nothing, _) = Registry::numbered(0);
    service.set_mood(Mood::Slow(SLOW));
    let settings = Settings::stdio(&nothing)
        .text("registry.source", "http")
        .text("registry.http.url", &service.url())
        .text("registry.http.cache_ttl", cache_ttl)
        .toml("mqtt.proxy_protocol_from", r#"["127.0.0.1"]"#)
        .text("coap.listen", "127.0.0.1:0");
    Bridge::start(&settings)
}

/// A connection through a balancer, of a client at that address.
fn open(address: SocketAddr, client: &str) -> Wire {
    let mut wire = Wire::open(address);
    wire.send(format!("PROXY TCP4 {client} 10.0.0.1 1024 1883\r\n").as_bytes());
    wire
}

/// Runs `serve` once strangers that do `ask` again and again have been told to come later.
fn under_flood(bridge: &Bridge, mut ask: impl FnMut(usize) + Send, serve: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let begin = Instant::now();
            let mut number = 0;
            while !is_over.load(Ordering::Relaxed) && begin.elapsed() < PATIENCE {
                if begin.elapsed().as_secs_f64() * PER_SECOND > number as f64 {
                    ask(number);
                    number += 1;
                } else {
                    thread::yield_now();
                }
            }
        });
        let served = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let turned_away = || bridge.metric("jetlinks_bridge_registry_lookups_total", &["away"]);
            eventually("strangers are turned away", PATIENCE, || (turned_away() > 100.0).then_some(()));
            serve();
        }));
        is_over.store(true, Ordering::Relaxed);
        served.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Good devices connect one after the other, each for the first time.
fn connect_all(bridge: &Bridge, devices: &[Registration], client: &str) {
    for device in devices {
        let begin = Instant::now();
        let mut wire = open(bridge.mqtt(), client);
        wire.send(&Connect::of(device).bytes());
        assert_eq!((wire.next_packet().body[1], &device.id), (ACCEPTED, &device.id));
        assert!(begin.elapsed() < BOUND, "{}: {:?}", device.id, begin.elapsed());
    }
}

fn devices(service: &Service, names: &str) -> Vec<Registration> {
    let devices: Vec<_> = (1..=4).map(|number| Registration::encrypting(&format!("{names}{number}"))).collect();
    devices.iter().for_each(|device| service.put(&device.id, &record(device)));
    devices
}

/// CONNECTs of one address, each with another id.
fn connects(bridge: &Bridge) -> impl FnMut(usize) + Send + use<> {
    let (address, mut kept) = (bridge.mqtt(), VecDeque::new());
    move |number| {
        let mut wire = open(address, "10.9.9.9");
        wire.send(&Connect::of(&Registration::new(&format!("invented{number}"))).bytes());
        kept.push_front(wire);
        kept.truncate(CONNECTIONS);
    }
}

#[test]
fn connects_with_invented_ids_keep_no_device_of_another_address_waiting() {
    let service = Service::start();
    let devices = devices(&service, "device");
    let bridge = start(&service, "15m");
    under_flood(&bridge, connects(&bridge), || connect_all(&bridge, &devices, "10.0.0.2"));
}

#[test]
fn connects_with_invented_ids_keep_no_session_alive_that_the_service_forbids() {
    const CACHE_TTL: Duration = Duration::from_secs(6);
    let service = Service::start();
    let device = &devices(&service, "device")[0];
    let bridge = start(&service, "6s");
    under_flood(&bridge, connects(&bridge), || {
        let mut wire = open(bridge.mqtt(), "10.0.0.2");
        wire.send(&Connect::of(device).bytes());
        assert_eq!(wire.next_packet().body[1], ACCEPTED);
        let begin = Instant::now();
        service.remove(&device.id);
        wire.wait_closed();
        assert!(begin.elapsed() < CACHE_TTL, "{:?}", begin.elapsed());
    });
}

#[test]
fn datagrams_with_invented_ids_keep_no_device_of_another_address_or_over_mqtt_waiting() {
    let service = Service::start();
    let (over_mqtt, over_coap) = (devices(&service, "device"), devices(&service, "sensor"));
    let bridge = start(&service, "15m");
    let server = bridge.listener("coap");
    let sockets: Vec<UdpSocket> = (0..400).map(|_| socket(anywhere(), server)).collect();
    let ask = move |number: usize| {
        let token = MessageToken::new(&[]).unwrap();
        let id = (number % 65_536) as u16;
        let request =
            Draft::new(Kind::NonConfirmable, Code::POST, id, token).path("/product1/invented/properties/report");
        let request = request.option(option::DEVICE_ID, format!("invented{number}").as_bytes()).payload(&[7; 32]);
        sockets[number % sockets.len()].send(&request.encode()).unwrap();
    };
    under_flood(&bridge, ask, || {
        connect_all(&bridge, &over_mqtt, "127.0.0.1");
        for device in &over_coap {
            let begin = Instant::now();
            let mut own = CoapDevice::plain_from("127.0.0.2:0".parse().unwrap(), server);
            let request = own.encrypted(device, "properties/report", REPORT);
            assert_eq!(own.request(&request).code(), Code::CREATED, "{}", device.id);
            assert!(begin.elapsed() < BOUND, "{}: {:?}", device.id, begin.elapsed());
        }
    });
}
