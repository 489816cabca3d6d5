//! Strangers of one network who take all that they can get of what is bounded, and a device of another one.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::{Bridge, Connect, Packet, Registration, Registry, Settings, Wire, eventually};

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
