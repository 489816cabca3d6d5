//! A UDP relay that loses, doubles and reorders.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use jetlinks_bridge::protocol::random::Random;

use crate::support::coap::{anywhere, socket};

/// How long a datagram that was held back waits for a later one to overtake it.
const HELD_BACK: Duration = Duration::from_millis(20);

/// Of a hundred datagrams those that are lost, those that are doubled, and those that are held back.
const PERCENT: u64 = 20;

/// Between one client and one server; ends when dropped.
pub(crate) struct Relay {
    address: SocketAddr,
    is_lossy: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// A relay that is faithful until [`Relay::lose`]. The first who sends to it is its client.
    pub(crate) fn new(server: SocketAddr, seed: u64) -> Self {
        let front = UdpSocket::bind(anywhere()).unwrap();
        let back = socket(anywhere(), server);
        let address = front.local_addr().unwrap();
        let (is_lossy, is_over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        for socket in [&front, &back] {
            socket.set_read_timeout(Some(HELD_BACK)).unwrap();
        }
        let way = |from: &UdpSocket, to: &UdpSocket, seed: u64| Way {
            from: from.try_clone().unwrap(),
            to: to.try_clone().unwrap(),
            is_lossy: is_lossy.clone(),
            is_over: is_over.clone(),
            random: Random::new(seed.into()),
        };
        let (mut up, mut down) = (way(&front, &back, seed), way(&back, &front, seed.rotate_left(32)));
        let threads = vec![thread::spawn(move || up.run()), thread::spawn(move || down.run())];
        Self { address, is_lossy, is_over, threads }
    }

    /// Where the client sends to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it loses, doubles and reorders.
    pub(crate) fn lose(&self) {
        self.is_lossy.store(true, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

struct Way {
    from: UdpSocket,
    to: UdpSocket,
    is_lossy: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
    random: Random,
}

impl Way {
    fn run(&mut self) {
        let mut buffer = [0; 2048];
        let mut held: Option<Vec<u8>> = None;
        while !self.is_over.load(Ordering::Relaxed) {
            let Ok((bytes, from)) = self.from.recv_from(&mut buffer) else {
                self.forward(held.take());
                continue;
            };
            // The answers of the server go to whom the questions came from.
            if self.from.peer_addr().is_err() {
                self.from.connect(from).unwrap();
            }
            let datagram = buffer[..bytes].to_vec();
            if !self.is_lossy.load(Ordering::Relaxed) {
                self.forward(Some(datagram));
                continue;
            }
            if self.happens() {
                continue;
            }
            if self.happens() {
                self.forward(Some(datagram.clone()));
            }
            if held.is_none() && self.happens() {
                held = Some(datagram);
                continue;
            }
            self.forward(Some(datagram));
            self.forward(held.take());
        }
    }

    fn forward(&self, datagram: Option<Vec<u8>>) {
        if let Some(datagram) = datagram {
            // Nobody is there before the first datagram, nor after the last.
            drop(self.to.send(&datagram));
        }
    }

    fn happens(&mut self) -> bool {
        self.random.below(100) < PERCENT
    }
}
