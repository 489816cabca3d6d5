//! Memory of NATS servers for the interest in commands: a subscription a device.

use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::port::free_port;
use crate::support::{Nats, eventually};

/// For the servers to know each other, and all subscriptions.
const PATIENCE: Duration = Duration::from_secs(60);

/// After this time the servers have given back what they needed for reading.
const REST: Duration = Duration::from_secs(8);

/// Measures the server that has the connection and one that hears of it by a route.
pub(crate) fn measure(interests: u32) {
    let routes = [free_port(), free_port()];
    let servers = [start("n0", routes[0], routes[1]), start("n1", routes[1], routes[0])];
    let mut subscriber = Subscriber::connect(&servers[0]);
    let known = |server: &Nats| server.subscriptions() >= u64::from(interests);
    let before = servers.each_ref().map(|server| server.process().resident_bytes());
    let begin = Instant::now();
    subscriber.subscribe(interests);
    eventually("both servers know all subscriptions", PATIENCE, || servers.iter().all(known).then_some(()));
    let seconds = begin.elapsed().as_secs_f64();
    let rested = Instant::now() + REST;
    eventually("the servers rest", PATIENCE, || (Instant::now() >= rested).then_some(()));
    let each = |server: usize| {
        servers[server].process().resident_bytes().saturating_sub(before[server]) as f64 / f64::from(interests)
    };
    println!("\n{interests} interests in commands, declared in {seconds:.1} s, bytes each of nats-server:");
    println!("{:.0} where the bridge is connected, {:.0} in a server that hears of them by a route", each(0), each(1));
}

/// Starts a member of a cluster of two.
fn start(name: &str, own: u16, other: u16) -> Nats {
    Nats::without_jetstream(&format!(
        "server_name: {name}\ncluster {{ name: c, listen: \"127.0.0.1:{own}\", \
         routes: [\"nats-route://127.0.0.1:{other}\"] }}\n"
    ))
}

/// A client that subscribes as a bridge does.
struct Subscriber {
    stream: BufReader<TcpStream>,
}

impl Subscriber {
    fn connect(server: &Nats) -> Self {
        let stream = TcpStream::connect(server.address()).expect("the server is there");
        let mut subscriber = Self { stream: BufReader::new(stream) };
        subscriber.write(b"CONNECT {\"verbose\":false}\r\n");
        subscriber.synchronize();
        subscriber
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("the server reads");
    }

    /// Waits until the server has taken everything.
    fn synchronize(&mut self) {
        self.write(b"PING\r\n");
        let mut line = String::new();
        while !line.starts_with("PONG") {
            line.clear();
            assert_ne!(self.stream.read_line(&mut line).expect("the server answers"), 0, "the server closed");
        }
    }

    fn subscribe(&mut self, interests: u32) {
        let mut text = Vec::new();
        for number in 1..=interests {
            let _ = write!(text, "SUB jetlinks.command.product1.device{number}.> {number}\r\n");
        }
        self.write(&text);
        self.synchronize();
    }
}
