//! Unknown clients that ask for devices that there are none of, while the service takes its time.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use jetlinks_bridge::codec::coap::{Code, Kind, MessageBuilder, MessageToken, option};

use crate::flood::{Beside, Flood, counting, dial_through_proxy, per_second, proxies};
use crate::support::bridge::by_build;
use crate::support::coap::{anywhere, socket};
use crate::support::service::{Mood, Service};
use crate::support::{Bridge, CoapDevice, Connect, Registration, Registry, Settings, Wire, eventually};

/// How long the service takes for each answer: with 64 at once it gives some 210 a second, or 1,280.
fn slow() -> Duration {
    by_build(Duration::from_millis(300), Duration::from_millis(50))
}

/// How often a stranger asks over MQTT, each time for another id.
fn connects_per_second() -> f64 {
    by_build(600.0, 1_500.0)
}

/// Connections that a stranger keeps open: as many as it opens while a look-up may take.
fn connections() -> usize {
    by_build(400, 3_000)
}

const PATIENCE: Duration = Duration::from_secs(60);

const REPORT: &str = r#"{"properties":{"temperature":36.8}}"#;

fn start(service: &Service, cache_ttl: &str) -> Bridge {
    let (nothing, _) = Registry::numbered(0);
    service.put("bystander", &record(&Registration::new("bystander")));
    service.set_mood(Mood::Slow(slow()));
    let settings = Settings::stdio(&nothing)
        .text("registry.source", "http")
        .text("registry.http.url", &service.url())
        .text("registry.http.cache_ttl", cache_ttl)
        .toml("mqtt.proxy_protocol_from", &proxies())
        .text("coap.listen", "127.0.0.1:0");
    Bridge::start(&settings)
}

/// The record of a device as the service gives it.
fn record(device: &Registration) -> serde_json::Value {
    serde_json::json!({
        "id": device.id, "product": device.product, "enabled": device.enabled,
        "secureId": device.secure_id, "secureKey": device.secure_key,
    })
}

fn open(address: SocketAddr, client: &str) -> Wire {
    Wire::over(dial_through_proxy(client, address))
}

/// Has `serve` done, which tells the time that [`counting`] gives, once strangers that do `ask` so many times a second have been told to come
/// later.
fn under_flood(
    (name, rate): (&str, f64),
    bridge: &Bridge,
    ask: impl FnMut(usize) + Send + 'static,
    serve: impl FnOnce() -> Duration,
) {
    let beside = Beside::start(bridge.mqtt(), &Registration::new("bystander"));
    let flood = Flood::start(rate, ask);
    let turned_away = || bridge.metric("jetlinks_bridge_registry_lookups_total", &["late"]);
    eventually("strangers are turned away", PATIENCE, || (turned_away() > 100.0).then_some(()));
    let served = serve();
    beside.bear_strangers(name, per_second(|| flood.rate(), "requests"), Some(served));
}

/// Good devices connect one after the other, each for the first time; the time of one.
fn connect_all(bridge: &Bridge, devices: &[Registration], client: &str) -> Duration {
    let connect = |device: &Registration| {
        let begin = Instant::now();
        let mut wire = open(bridge.mqtt(), client);
        wire.send(&Connect::of(device).bytes());
        assert_eq!((wire.next_packet().body[1], &device.id), (0, &device.id));
        begin.elapsed()
    };
    counting(devices.iter().map(connect))
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
        kept.truncate(connections());
    }
}

#[test]
fn connects_with_invented_ids_keep_no_device_of_another_address_waiting() {
    let service = Service::start();
    let devices = devices(&service, "device");
    let bridge = start(&service, "15m");
    let flood = ("CONNECTs with invented ids, registry behind HTTP", connects_per_second());
    under_flood(flood, &bridge, connects(&bridge), || connect_all(&bridge, &devices, "10.0.0.2"));
}

#[test]
fn connects_with_invented_ids_keep_no_session_alive_that_the_service_forbids() {
    let service = Service::start();
    let devices = devices(&service, "device");
    let (device, others) = (&devices[0], devices[1..].to_vec());
    let bridge = start(&service, "6s");
    let flood = ("CONNECTs with invented ids beside a device that is removed", connects_per_second());
    under_flood(flood, &bridge, connects(&bridge), || {
        let mut wire = open(bridge.mqtt(), "10.0.0.2");
        wire.send(&Connect::of(device).bytes());
        assert_eq!(wire.next_packet().body[1], 0);
        service.remove(&device.id);
        // The flood goes on as long as that.
        wire.wait_closed();
        connect_all(&bridge, &others, "10.0.0.2")
    });
}

#[test]
fn datagrams_with_invented_ids_keep_no_device_of_another_address_or_over_mqtt_waiting() {
    let rates: &[f64] = by_build(&[600.0], &[1_000.0, 3_000.0]);
    for &rate in rates {
        let service = Service::start();
        let (over_mqtt, over_coap) = (devices(&service, "device"), devices(&service, "sensor"));
        let bridge = start(&service, "15m");
        let server = bridge.listener("coap");
        let sockets: Vec<UdpSocket> = (0..400).map(|_| socket(anywhere(), server)).collect();
        let ask = move |number: usize| {
            let token = MessageToken::new(&[]).unwrap();
            let id = (number % 65_536) as u16;
            let request = MessageBuilder::new(Kind::NonConfirmable, Code::POST, id, token)
                .path("/product1/invented/properties/report");
            let request = request.option(option::DEVICE_ID, format!("invented{number}").as_bytes()).payload(&[7; 32]);
            sockets[number % sockets.len()].send(&request.encode()).unwrap();
        };
        let flood = ("CoAP with invented ids, registry behind HTTP", rate);
        under_flood(flood, &bridge, ask, || {
            let report = |device: &Registration| {
                let begin = Instant::now();
                let mut own = CoapDevice::plain_from("127.0.0.2:0".parse().unwrap(), server);
                let request = own.encrypted(device, "properties/report", REPORT).encode();
                // What the kernel has no room for is lost, and sent again.
                own.set_patience(Duration::from_millis(250));
                let code = eventually("the report is answered", PATIENCE, || {
                    own.send(&request);
                    own.receive().map(|answer| answer.code()).filter(|code| *code != Code::EMPTY)
                });
                assert_eq!(code, Code::CREATED, "{}", device.id);
                begin.elapsed()
            };
            let mqtt = connect_all(&bridge, &over_mqtt, "127.0.0.1");
            counting(over_coap.iter().map(report)).max(mqtt)
        });
    }
}
