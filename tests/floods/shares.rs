//! Unauthenticated clients of one network who take all that they can get of what is bounded, and a device of another one.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use jetlinks_bridge::codec::coap::{Block, Code, Kind, MessageBuilder, MessageToken, option};
use jetlinks_bridge::protocol::cipher;

use crate::datagrams::{hello, with_cookie};
use crate::flood::{Beside, Flood, SERVED, counting, dial_from, dial_through_proxy, per_second, proxies};
use crate::support::bridge::by_build;
use crate::support::coap::socket;
use crate::support::{
    Bridge, Certificate, CoapDevice, Connect, Packet, Registration, Registry, Settings, Wire, eventually,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Networks: that of the strangers, and that of the device.
const STRANGERS: u8 = 1;
const DEVICE: u8 = 2;

/// How the bridge learns whose a connection is.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// By the address that it comes from.
    Address,
    /// By the header of a proxy, from which all connections come.
    Proxy,
}

impl Way {
    const ALL: [Way; 2] = [Way::Address, Way::Proxy];

    fn settings(self, settings: Settings) -> Settings {
        match self {
            Way::Address => settings,
            Way::Proxy => settings.toml("mqtt.proxy_protocol_from", &proxies()),
        }
    }

    /// A connection of that network.
    fn dial(self, address: SocketAddr, network: u8) -> TcpStream {
        match self {
            Way::Address => dial_from(network, address),
            Way::Proxy => dial_through_proxy(&format!("192.0.2.{network}"), address),
        }
    }

    /// Connects the device, with a CONNECT of its own; the connection, and the time until it was accepted.
    fn connect(self, address: SocketAddr, connect: &Connect) -> (Wire, Duration) {
        let begun = Instant::now();
        let mut wire = Wire::over(self.dial(address, DEVICE));
        wire.send(&connect.bytes());
        assert_eq!(wire.next_packet(), Packet { header: 0x20, body: vec![0, 0] }, "{self:?}");
        (wire, begun.elapsed())
    }
}

/// The time that a device's CONNECT took, of five.
fn one_of_five(way: Way, bridge: &Bridge, connect: &Connect) -> Duration {
    let connect = |_| {
        let (mut wire, time) = way.connect(bridge.mqtt(), connect);
        wire.send(&crate::support::packet::DISCONNECT);
        wire.wait_closed();
        time
    };
    counting((0..5).map(connect))
}

#[test]
fn wrong_connects_of_one_network_keep_no_device_of_another_waiting() {
    // As many at a time as a debug build takes in in three seconds with that limit, and with the default one.
    let (at_a_time, connect_rate) = by_build((600, "200"), (6_000, "2000"));
    for way in Way::ALL {
        let (registry, devices) = Registry::numbered(2);
        let settings = Settings::stdio(&registry).toml("limits.connect_rate", connect_rate);
        let bridge = Bridge::start(&way.settings(settings));
        let beside = Beside::start(bridge.mqtt(), &devices[1]);
        let address = bridge.mqtt();
        let liar = Registration { secure_key: "wrong".to_owned(), ..devices[0].clone() };
        let wrong = Connect::of(&liar).bytes();
        let mut open = VecDeque::new();
        let flood = Flood::unbounded(move |_| {
            let mut stream = way.dial(address, STRANGERS);
            // It may be closed already.
            drop(stream.write_all(&wrong));
            open.push_back(stream);
            if open.len() > at_a_time {
                drop(open.pop_front().unwrap().read_to_end(&mut Vec::new()));
            }
        });
        eventually("strangers fail", PATIENCE, || {
            let failed = bridge.metric("jetlinks_bridge_connects_total", &["wrong_credentials"]);
            (failed > 300.0 && flood.count() > at_a_time).then_some(())
        });
        let served = one_of_five(way, &bridge, &Connect::of(&devices[0]));
        let name = format!("{at_a_time} wrong CONNECTs at a time, by {way:?}");
        beside.bear_strangers(&name, per_second(|| flood.rate(), "CONNECTs"), Some(served));
    }
}

#[test]
fn a_connection_that_waits_in_vain_for_its_turn_is_no_failure_of_its_network() {
    let (registry, _devices) = Registry::numbered(1);
    let settings = Settings::stdio(&registry).toml("runtime.workers", "1").toml("limits.connect_rate", "1");
    let bridge = Bridge::start(&settings.text("mqtt.connect_timeout", "200ms"));
    // The first one has its turn at once and says nothing, the turn of the second one comes a second later.
    bridge.signal(libc::SIGSTOP);
    let _open = [0; 2].map(|_| Way::Address.dial(bridge.mqtt(), STRANGERS));
    bridge.signal(libc::SIGCONT);
    let outcomes = eventually("both are closed", PATIENCE, || {
        let of = |outcome| bridge.metric("jetlinks_bridge_connects_total", &[outcome]);
        let outcomes = (of("malformed"), of("crowded"));
        (outcomes.0 + outcomes.1 >= 2.0).then_some(outcomes)
    });
    assert_eq!(outcomes, (1.0, 1.0), "malformed counts as a failure");
}

#[test]
fn large_connects_that_one_network_only_announces_keep_no_large_one_of_another_waiting() {
    /// As many as come in the time that a CONNECT may take, at four a second.
    const OPEN: usize = 40;
    for way in Way::ALL {
        let (registry, devices) = Registry::numbered(2);
        let bridge = Bridge::start(&way.settings(Settings::stdio(&registry)));
        let beside = Beside::start(bridge.mqtt(), &devices[1]);
        let address = bridge.mqtt();
        let announce = move || {
            let mut stream = way.dial(address, STRANGERS);
            // CONNECT with a length of 262,000, and nothing behind its name.
            stream.write_all(&[&[0x10, 0xf0, 0xfe, 0x0f][..], b"\0\x04MQTT"].concat()).unwrap();
            stream
        };
        let mut open: VecDeque<TcpStream> = (0..OPEN).map(|_| announce()).collect();
        eventually("all of them wait", PATIENCE, || {
            (bridge.metric("jetlinks_bridge_connections", &["opening"]) >= OPEN as f64).then_some(())
        });
        let flood = Flood::start(4.0, move |_| {
            open.push_back(announce());
            open.pop_front();
        });
        let large = Connect::of(&devices[0]).will(&devices[0].topic("event/gone"), &"x".repeat(60_000));
        let served = one_of_five(way, &bridge, &large);
        let name = format!("{OPEN} CONNECTs of 262,000 bytes announced and more, by {way:?}");
        beside.bear_strangers(&name, per_second(|| flood.rate(), "CONNECTs"), Some(served));
    }
}

#[test]
fn wills_of_one_network_leave_room_for_those_of_another() {
    // Wills have an eighth of what may be under way, and one network gets half of as many as fit in there, rounded up.
    let (inflight, wills, room) = by_build(("8MiB", 40, 8), ("64MiB", 131, 66));
    for way in Way::ALL {
        let (registry, devices) = Registry::numbered(wills + 2);
        let settings = Settings::stdio(&registry).text("limits.inflight_bytes", inflight);
        let bridge = Bridge::start(&way.settings(settings));
        let beside = Beside::start(bridge.mqtt(), &devices[1]);
        let with_will =
            |device: &Registration, bytes| Connect::of(device).will(&device.topic("event/gone"), &"x".repeat(bytes));
        let connect = |device: &Registration| {
            let mut wire = Wire::over(way.dial(bridge.mqtt(), STRANGERS));
            wire.send(&with_will(device, 65_000).bytes());
            (wire.next_packet().body[1] == 0).then_some(wire)
        };
        let greedy: Vec<Wire> = devices[2..].iter().filter_map(connect).collect();
        assert_eq!(greedy.len(), room, "one network gets half of the room");
        let served = one_of_five(way, &bridge, &with_will(&devices[0], 65_000));
        let rate = || format!("{} kept", greedy.len());
        beside.bear_strangers(&format!("{wills} wills of 65,000 bytes, by {way:?}"), rate, Some(served));
        drop(greedy);
        eventually("room comes back with the sessions", PATIENCE, || connect(&devices[2]));
    }
}

/// Any port of a network's address.
fn any_port(network: u8) -> SocketAddr {
    ([127, 0, 0, network], 0).into()
}

#[test]
fn hellos_of_one_network_keep_no_handshake_of_another_from_beginning() {
    const RANDOM: std::ops::Range<usize> = 27..35;
    /// Hellos that an optimised worker reads in a second, whatever else the machine does.
    const READABLE: f64 = 25_000.0;
    let floods: &[(&str, f64)] = by_build(&[("200", 2_000.0)], &[("200", 20_000.0), ("2000", 125_000.0)]);
    for &(connect_rate, rate) in floods {
        let (registry, devices) = Registry::numbered(1);
        let certificate = Certificate::elliptic();
        let settings = Settings::stdio(&registry).coap(&certificate).toml("limits.connect_rate", connect_rate);
        let bridge = Bridge::start(&settings);
        let beside = Beside::start(bridge.mqtt(), &devices[0]);
        let dtls = bridge.listener("dtls");
        let stranger = socket(any_port(STRANGERS), dtls);
        let mut hello = with_cookie(&stranger, &hello()).expect("a cookie is asked for");
        let flood = Flood::start(rate, move |number| {
            // Another handshake each time.
            hello[RANDOM].copy_from_slice(&number.to_be_bytes());
            drop(stranger.send(&hello));
        });
        eventually("handshakes are refused", PATIENCE, || {
            (bridge.metric("jetlinks_bridge_dtls_handshakes_total", &["refused"]) > 1_000.0).then_some(())
        });
        let handshake = |_| {
            let begun = Instant::now();
            // What the kernel has no room for is lost, and the client begins again.
            eventually("a handshake comes to its end", PATIENCE, || {
                CoapDevice::try_dtls_within(any_port(DEVICE), dtls, SERVED / 2).ok().map(drop)
            });
            begun.elapsed()
        };
        let longest = counting((0..5).map(handshake));
        let name = format!("hellos of DTLS from one port, connect_rate {connect_rate}");
        // Above what a worker reads the kernel loses datagrams of everybody, and a client asks again after a second.
        let served = (rate < READABLE).then_some(longest);
        beside.bear_strangers(
            &format!("{name}, {longest:?} for a handshake"),
            per_second(|| flood.rate(), "hellos"),
            served,
        );
    }
}

#[test]
fn first_blocks_of_one_network_push_no_upload_of_another_out() {
    const BLOCK_BYTES: usize = 64;
    /// First blocks that come between two blocks of the device.
    const BETWEEN: usize = 1_300;
    let (device, bystander) = (Registration::encrypting("device1"), Registration::new("device2"));
    let registry = Registry::new(&[device.clone(), bystander.clone()]);
    let bridge = Bridge::start(&Settings::stdio(&registry).text("coap.listen", "127.0.0.1:0"));
    let beside = Beside::start(bridge.mqtt(), &bystander);
    let coap = bridge.listener("coap");
    let draft = |id: u16, token: u16, suffix: &str| {
        let token = MessageToken::new(&token.to_be_bytes()).unwrap();
        let draft = MessageBuilder::new(Kind::Confirmable, Code::POST, id, token).path(&device.topic(suffix));
        draft.option(option::DEVICE_ID, device.id.as_bytes())
    };
    let first = Block { number: 0, more: true, size_exponent: 2 }.to_uint();
    // Two of each port may be open, and 1,024 of all.
    let ports: Vec<UdpSocket> = (0..600).map(|_| socket(any_port(STRANGERS), coap)).collect();
    let mut requests = ["event/0", "event/1"].map(|suffix| {
        let request = MessageBuilder::new(Kind::NonConfirmable, Code::POST, 0, MessageToken::new(&[0; 2]).unwrap());
        let request = request.path(&device.topic(suffix)).option(option::DEVICE_ID, device.id.as_bytes());
        request.uint(option::BLOCK1, first).payload(&[7; BLOCK_BYTES]).encode()
    });
    let flood = Flood::start(by_build(2_000.0, 20_000.0), move |number| {
        let id = u16::try_from(number / ports.len() % 60_000).unwrap().to_be_bytes();
        let request = &mut requests[usize::from(id[1] % 2)];
        // Message id and token.
        request[2..6].copy_from_slice(&[id, id].concat());
        drop(ports[number % ports.len()].send(request));
    });
    let mut good = CoapDevice::plain_from(any_port(DEVICE), coap);
    // What the kernel has no room for is lost, and sent again.
    good.set_patience(Duration::from_millis(250));
    let json = format!(r#"{{"data":"{}"}}"#, "x".repeat(3 * BLOCK_BYTES));
    let body = cipher::encrypt(cipher::key(&device.secure_key).unwrap(), json.as_bytes());
    let blocks: Vec<&[u8]> = body.chunks(BLOCK_BYTES).collect();
    let mut worst = Duration::ZERO;
    for (number, bytes) in (0..).zip(&blocks) {
        let block = Block { number, more: number as usize + 1 < blocks.len(), size_exponent: 2 };
        let id = u16::try_from(number).unwrap() + 1;
        let request = draft(id, 1, "event/long").uint(option::BLOCK1, block.to_uint()).payload(bytes).encode();
        let begun = Instant::now();
        good.send(&request);
        // A flood may cost a datagram.
        let answer = eventually("the block is answered", PATIENCE, || match good.receive() {
            // Another one is late, of a block that was sent twice.
            Some(answer) => (answer.id() == id).then_some(answer),
            None => {
                good.send(&request);
                None
            }
        });
        assert_eq!(answer.code(), if block.more { Code::CONTINUE } else { Code::CREATED }, "block {number}");
        worst = worst.max(begun.elapsed());
        let before = flood.count();
        eventually("others begin", PATIENCE, || (flood.count() > before + BETWEEN).then_some(()));
    }
    let served = by_build(None, Some(worst));
    beside.bear_strangers("first blocks of bodies over CoAP", per_second(|| flood.rate(), "blocks"), served);
}
