//! Connections through a balancer that says whose they are.

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::wire::Incoming;
use crate::support::{Bridge, Connect, Packet, Registration, Registry, Settings, Wire, http};

const ACCEPTED: Packet = Packet { header: 0x20, body: Vec::new() };

/// A bridge that believes `networks`, and the device that it knows.
fn start(networks: &str) -> (Bridge, Registration, Registry) {
    let (registry, mut devices) = Registry::numbered(1);
    let settings = Settings::stdio(&registry)
        .toml("mqtt.proxy_protocol_from", &format!("[{networks:?}]"))
        .text("mqtt.connect_timeout", "5s");
    (Bridge::start(&settings), devices.remove(0), registry)
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, rest].concat()
}

/// Sends these pieces one after the other and then CONNECT; the connection with its session.
fn enter(bridge: &Bridge, device: &Registration, pieces: &[&[u8]]) -> Wire {
    let mut wire = Wire::open(bridge.mqtt());
    pieces.iter().for_each(|piece| wire.send(piece));
    wire.send(&Connect::of(device).bytes());
    assert_eq!(wire.next_packet(), Packet { body: vec![0, 0], ..ACCEPTED });
    wire
}

/// The address of the client as `online` tells it.
fn address(bridge: &mut Bridge) -> String {
    loop {
        let envelope = bridge.next_envelope();
        if envelope["type"] == "org.jetlinks.device.online" {
            return envelope["data"]["headers"]["cliAddr"].as_str().unwrap().to_owned();
        }
    }
}

#[test]
fn the_address_of_a_header_is_that_of_the_client_everywhere() {
    let (mut bridge, device, _registry) = start("127.0.0.0/8");
    let v1 = b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 1883\r\n";
    let inet6 = [&[0x20, 0x01, 0x0d, 0xb8][..], &[0; 11], &[7], &[0; 16], &[0xdc, 0x04, 0x07, 0x5b]].concat();
    let v2 = v2(0x21, 0x21, &inet6);
    let ways: [(&[&[u8]], &str); 3] = [
        (&[v1], "192.0.2.7:56324"),
        (&[&v1[..3], &v1[3..20], &v1[20..]], "192.0.2.7:56324"),
        (&[&v2[..13], &v2[13..]], "[2001:db8::7]:56324"),
    ];
    for (pieces, expected) in ways {
        let wire = enter(&bridge, &device, pieces);
        assert_eq!(address(&mut bridge), expected);
        let session = http::get(bridge.admin(), "/api/sessions/device1").unwrap().body;
        assert_eq!(serde_json::from_str::<Value>(&session).unwrap()["peer"], expected, "{session}");
        drop(wire);
    }
}

#[test]
fn header_and_connect_may_come_in_one_piece() {
    let (mut bridge, device, _registry) = start("127.0.0.1");
    let mut wire = Wire::open(bridge.mqtt());
    let header = b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n";
    wire.send(&[&header[..], &Connect::of(&device).bytes()].concat());
    assert_eq!(wire.next_packet(), Packet { body: vec![0, 0], ..ACCEPTED });
    assert_eq!(address(&mut bridge), "192.0.2.7:1");
}

#[test]
fn a_connection_of_the_proxy_itself_keeps_its_address() {
    let (mut bridge, device, _registry) = start("127.0.0.0/8");
    for header in [&b"PROXY UNKNOWN\r\n"[..], &v2(0x20, 0x00, &[]), &v2(0x21, 0x31, &[0; 216])] {
        let _wire = enter(&bridge, &device, &[header]);
        let address: SocketAddr = address(&mut bridge).parse().unwrap();
        assert!(address.ip().is_loopback() && address.port() != 0, "{address}");
    }
}

#[test]
fn a_proxy_without_a_header_or_with_a_broken_one_is_closed_without_a_word() {
    let (bridge, device, _registry) = start("127.0.0.0/8");
    let connect = Connect::of(&device).bytes();
    let broken: [&[u8]; 5] = [
        &connect,
        b"PROXY TCP4 192.0.2.7 192.0.2.1 1 99999\r\n",
        b"PROXY TCP4 192.0.2.7\n",
        &v2(0x21, 0x11, &[0; 11]),
        &v2(0x21, 0x51, &[0; 12]),
    ];
    for bytes in broken {
        let mut wire = Wire::open(bridge.mqtt());
        wire.send_regardless(&[bytes, &connect].concat());
        assert_eq!(wire.next(), Incoming::Closed, "{bytes:?}");
    }
    assert_eq!(bridge.metric("jetlinks_bridge_connects_total", &["proxy_header"]), 5.0);
    // One that says nothing has no more time than for its CONNECT.
    let mut slow = Wire::open(bridge.mqtt());
    slow.send(b"PROXY TCP4 ");
    assert_eq!(slow.next(), Incoming::Closed);
    assert_eq!(bridge.metric("jetlinks_bridge_connects_total", &["proxy_header"]), 5.0);
}

#[test]
fn nobody_else_is_believed() {
    let (mut bridge, device, _registry) = start("192.0.2.0/24");
    let mut wire = Wire::open(bridge.mqtt());
    wire.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n");
    assert_eq!(wire.next(), Incoming::Closed);
    let _wire = Wire::connect(bridge.mqtt(), &device);
    assert!(address(&mut bridge).starts_with("127.0.0.1:"));
}
