//! Listeners for IPv4 and IPv6.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::support::port::free_port;
use crate::support::{Bridge, Registration, Registry, Settings, Wire, http, packet};

const PATIENCE: Duration = Duration::from_secs(60);

/// Both loopback addresses with that port.
fn both(address: SocketAddr) -> [SocketAddr; 2] {
    [(Ipv4Addr::LOCALHOST, address.port()).into(), (Ipv6Addr::LOCALHOST, address.port()).into()]
}

/// Whether a port answers a CoAP ping with a reset (RFC 7252, section 4.3).
fn answers_ping(to: SocketAddr) -> bool {
    let from: SocketAddr = if to.is_ipv4() { (Ipv4Addr::LOCALHOST, 0).into() } else { (Ipv6Addr::LOCALHOST, 0).into() };
    let socket = UdpSocket::bind(from).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(to).unwrap();
    socket.send(&[0x40, 0, 0, 7]).unwrap();
    let mut answer = [0; 16];
    socket.recv(&mut answer).is_ok_and(|bytes| answer[..bytes] == [0x70, 0, 0, 7])
}

/// Every listener answers on both families.
fn assert_both(bridge: &mut Bridge, devices: &[Registration]) {
    for (address, device) in both(bridge.mqtt()).into_iter().zip(devices) {
        let mut wire = Wire::connect(address, device);
        let online = bridge.expect("device.online", &device.id);
        assert_eq!(online["data"]["headers"]["cliAddr"], wire.local_address().to_string(), "{online}");
        wire.send(&packet::DISCONNECT);
        bridge.expect("device.offline", &device.id);
    }
    for address in both(bridge.admin()) {
        assert_eq!(http::get(address, "/livez").unwrap().status, 200, "{address}");
    }
    for address in both(bridge.listener("coap")) {
        assert!(answers_ping(address), "{address}");
    }
}

#[test]
fn an_ipv6_address_serves_both_families_on_every_listener() {
    for workers in ["1", "2"] {
        let (registry, devices) = Registry::numbered(2);
        let settings = Settings::stdio(&registry).toml("runtime.workers", workers);
        let settings = settings.text("mqtt.listen", "[::]:0").text("coap.listen", "[::]:0");
        let mut bridge = Bridge::start(&settings.text("admin.listen", "[::]:0"));
        assert_both(&mut bridge, &devices);
    }
}

#[test]
fn both_families_can_be_listed_with_the_same_port() {
    let (registry, devices) = Registry::numbered(2);
    let listen = |port: u16| format!("0.0.0.0:{port},[::]:{port}");
    let settings = Settings::stdio(&registry)
        .text("mqtt.listen", &listen(free_port()))
        .text("coap.listen", &listen(free_port()))
        .text("admin.listen", &listen(free_port()));
    let mut bridge = Bridge::start(&settings);
    assert_both(&mut bridge, &devices);
}
