//! Strangers of one network who take all that they can get of what is bounded, and a device of another one.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jetlinks_bridge::codec::coap::{Block, Code, Draft, Kind, MessageToken, option};
use jetlinks_bridge::protocol::coap::cipher;
use socket2::{Domain, Socket, Type};

use crate::flood::{Flood, hello, with_cookie};
use crate::support::coap::socket;
use crate::support::{
    Bridge, Certificate, CoapDevice, Connect, Packet, Registration, Registry, Settings, Wire, eventually,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Within this time a device of another network is served, whatever strangers do.
const SERVED: Duration = Duration::from_secs(1);

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
            Way::Proxy => settings.toml("mqtt.proxy_protocol_from", r#"["127.0.0.0/8"]"#),
        }
    }

    /// A connection of that network.
    fn dial(self, address: SocketAddr, network: u8) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        if matches!(self, Way::Address) {
            socket.bind(&SocketAddr::from(([127, 0, 0, network], 0)).into()).unwrap();
        }
        socket.connect(&address.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        if matches!(self, Way::Proxy) {
            write!(stream, "PROXY TCP4 192.0.2.{network} 192.0.2.100 5000 1883\r\n").unwrap();
        }
        stream
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

/// Strangers that go on until they are dropped.
struct Strangers {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Strangers {
    /// Has `next` done again and again.
    fn start(mut next: impl FnMut() + Send + 'static) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let own = is_over.clone();
        let thread = thread::spawn(move || {
            while !own.load(Ordering::Relaxed) {
                next();
            }
        });
        Self { is_over, thread: Some(thread) }
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A device and the time that its CONNECT took, five times; what it was at worst.
fn worst_of_five(way: Way, bridge: &Bridge, connect: &Connect) -> Duration {
    let connect = |_| {
        let (mut wire, time) = way.connect(bridge.mqtt(), connect);
        wire.send(&crate::support::packet::DISCONNECT);
        wire.wait_closed();
        time
    };
    (0..5).map(connect).max().unwrap()
}

#[test]
fn wrong_connects_of_one_network_keep_no_device_of_another_waiting() {
    // As many at a time as the bridge takes in in three seconds.
    const AT_A_TIME: usize = 600;
    for way in Way::ALL {
        let (registry, devices) = Registry::numbered(1);
        let bridge = Bridge::start(&way.settings(Settings::stdio(&registry).toml("limits.connect_rate", "200")));
        let address = bridge.mqtt();
        let liar = Registration { secure_key: "wrong".to_owned(), ..devices[0].clone() };
        let wrong = Connect::of(&liar).bytes();
        let mut open = VecDeque::new();
        let strangers = Strangers::start(move || {
            let mut stream = way.dial(address, STRANGERS);
            // It may be closed already.
            drop(stream.write_all(&wrong));
            open.push_back(stream);
            if open.len() > AT_A_TIME {
                drop(open.pop_front().unwrap().read_to_end(&mut Vec::new()));
            }
        });
        eventually("strangers fail", PATIENCE, || {
            let failed = bridge.metric("jetlinks_bridge_connects_total", &["wrong_credentials"]);
            (failed > 300.0).then_some(())
        });
        let worst = worst_of_five(way, &bridge, &Connect::of(&devices[0]));
        drop(strangers);
        println!("{way:?}: {worst:?}");
        assert!(worst < SERVED, "{way:?}: {worst:?}");
    }
}

#[test]
fn a_connection_that_waits_in_vain_for_its_turn_is_no_failure_of_its_network() {
    let (registry, _devices) = Registry::numbered(1);
    let settings = Settings::stdio(&registry).toml("runtime.workers", "1").toml("limits.connect_rate", "1");
    let bridge = Bridge::start(&settings.text("mqtt.connect_timeout", "200ms"));
    // The first one has its turn at once and says nothing, the turn of the second one comes a second later.
    let _open = [0; 2].map(|_| Way::Address.dial(bridge.mqtt(), STRANGERS));
    let outcomes = eventually("both are closed", PATIENCE, || {
        let of = |outcome| bridge.metric("jetlinks_bridge_connects_total", &[outcome]);
        let outcomes = (of("malformed"), of("crowded"));
        (outcomes.0 + outcomes.1 >= 2.0).then_some(outcomes)
    });
    assert_eq!(outcomes, (1.0, 1.0), "malformed counts as a failure");
}

#[test]
fn large_connects_that_one_network_only_announces_keep_no_large_one_of_another_waiting() {
    for way in Way::ALL {
        let (registry, devices) = Registry::numbered(1);
        let bridge = Bridge::start(&way.settings(Settings::stdio(&registry)));
        let address = bridge.mqtt();
        // CONNECT with a length of 262,000, and nothing behind its name.
        let announced = [&[0x10, 0xf0, 0xfe, 0x0f][..], b"\0\x04MQTT"].concat();
        let open: Vec<TcpStream> = (0..40)
            .map(|_| {
                let mut stream = way.dial(address, STRANGERS);
                stream.write_all(&announced).unwrap();
                stream
            })
            .collect();
        eventually("all of them wait", PATIENCE, || {
            (bridge.metric("jetlinks_bridge_connections", &["opening"]) >= 40.0).then_some(())
        });
        let large = Connect::of(&devices[0]).will(&devices[0].topic("event/gone"), &"x".repeat(60_000));
        let worst = worst_of_five(way, &bridge, &large);
        drop(open);
        println!("{way:?}: {worst:?}");
        assert!(worst < SERVED, "{way:?}: {worst:?}");
    }
}

#[test]
fn wills_of_one_network_leave_room_for_those_of_another() {
    for way in Way::ALL {
        let (registry, devices) = Registry::numbered(41);
        let settings = Settings::stdio(&registry).text("limits.inflight_bytes", "8MiB");
        let bridge = Bridge::start(&way.settings(settings));
        let with_will =
            |device: &Registration, bytes| Connect::of(device).will(&device.topic("event/gone"), &"x".repeat(bytes));
        let connect = |device: &Registration| {
            let mut wire = Wire::over(way.dial(bridge.mqtt(), STRANGERS));
            wire.send(&with_will(device, 65_000).bytes());
            (wire.next_packet().body[1] == 0).then_some(wire)
        };
        let greedy: Vec<Wire> = devices[1..].iter().filter_map(connect).collect();
        // Of an eighth of what may be under way.
        assert_eq!(greedy.len(), 8, "one network gets half of the room");
        let worst = worst_of_five(way, &bridge, &with_will(&devices[0], 65_000));
        println!("{way:?}: {worst:?}");
        assert!(worst < SERVED, "{way:?}: {worst:?}");
        drop(greedy);
        eventually("room comes back with the sessions", PATIENCE, || connect(&devices[1]));
    }
}

/// Any port of a network's address.
fn any_port(network: u8) -> SocketAddr {
    ([127, 0, 0, network], 0).into()
}

#[test]
fn hellos_of_one_network_keep_no_handshake_of_another_from_beginning() {
    const RANDOM: std::ops::Range<usize> = 27..35;
    let (registry, _) = Registry::numbered(1);
    let certificate = Certificate::elliptic();
    let settings = Settings::stdio(&registry).coap(&certificate).toml("limits.connect_rate", "200");
    let bridge = Bridge::start(&settings);
    let dtls = bridge.listener("dtls");
    let stranger = socket(any_port(STRANGERS), dtls);
    let mut hello = with_cookie(&stranger, &hello()).expect("a cookie is asked for");
    let flood = Flood::start(2_000.0, move |number| {
        // Another handshake each time.
        hello[RANDOM].copy_from_slice(&number.to_be_bytes());
        drop(stranger.send(&hello));
    });
    eventually("handshakes are refused", PATIENCE, || {
        (bridge.metric("jetlinks_bridge_dtls_handshakes_total", &["refused"]) > 1_000.0).then_some(())
    });
    for _ in 0..5 {
        let begun = Instant::now();
        drop(CoapDevice::dtls_from(any_port(DEVICE), dtls));
        assert!(begun.elapsed() < SERVED, "{:?}", begun.elapsed());
    }
    drop(flood);
}

#[test]
fn first_blocks_of_one_network_push_no_upload_of_another_out() {
    const BLOCK_BYTES: usize = 64;
    /// First blocks that come between two blocks of the device.
    const BETWEEN: usize = 1_300;
    let device = Registration::encrypting("device1");
    let registry = Registry::new(std::slice::from_ref(&device));
    let bridge = Bridge::start(&Settings::stdio(&registry).text("coap.listen", "127.0.0.1:0"));
    let coap = bridge.listener("coap");
    let draft = |id: u16, token: u16, suffix: &str| {
        let token = MessageToken::new(&token.to_be_bytes()).unwrap();
        let draft = Draft::new(Kind::Confirmable, Code::POST, id, token).path(&device.topic(suffix));
        draft.option(option::DEVICE_ID, device.id.as_bytes())
    };
    let first = Block { number: 0, more: true, size_exponent: 2 }.to_uint();
    // Two of each port may be open, and 1,024 of all.
    let ports: Vec<UdpSocket> = (0..600).map(|_| socket(any_port(STRANGERS), coap)).collect();
    let sent = Arc::new(AtomicUsize::new(0));
    let (counted, stranger) = (sent.clone(), device.clone());
    let flood = Flood::start(2_000.0, move |number| {
        let id = u16::try_from(number / ports.len() % 60_000).unwrap();
        let token = MessageToken::new(&id.to_be_bytes()).unwrap();
        let request = Draft::new(Kind::NonConfirmable, Code::POST, id, token)
            .path(&stranger.topic(&format!("event/{}", id % 2)))
            .option(option::DEVICE_ID, stranger.id.as_bytes())
            .uint(option::BLOCK1, first)
            .payload(&[7; BLOCK_BYTES]);
        drop(ports[number % ports.len()].send(&request.encode()));
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let mut good = CoapDevice::plain_from(any_port(DEVICE), coap);
    good.set_patience(Duration::from_secs(1));
    let json = format!(r#"{{"data":"{}"}}"#, "x".repeat(3 * BLOCK_BYTES));
    let body = cipher::encrypt(cipher::key(&device.secure_key).unwrap(), json.as_bytes());
    let blocks: Vec<&[u8]> = body.chunks(BLOCK_BYTES).collect();
    for (number, bytes) in (0..).zip(&blocks) {
        let block = Block { number, more: number as usize + 1 < blocks.len(), size_exponent: 2 };
        let id = u16::try_from(number).unwrap() + 1;
        let request = draft(id, 1, "event/long").uint(option::BLOCK1, block.to_uint()).payload(bytes).encode();
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
        let before = sent.load(Ordering::Relaxed);
        eventually("others begin", PATIENCE, || (sent.load(Ordering::Relaxed) > before + BETWEEN).then_some(()));
    }
    drop(flood);
}
