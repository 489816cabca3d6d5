//! A TCP connection that can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How connections through the link fare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// As if it were not there.
    Through,
    /// Connections are closed, and new ones at once.
    Cut,
    /// Nothing comes through, and nobody is told.
    Silent,
}

/// Forwards connections to one address until it is cut; ended when dropped.
pub(crate) struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    /// What it carries in a second towards the target, over all connections; 0 is as much as comes.
    bytes_per_second: u32,
    /// When what it has taken is through.
    busy_until: Mutex<Instant>,
    state: Mutex<(Mood, Vec<TcpStream>)>,
    changed: Condvar,
}

impl Link {
    /// A link to that address.
    pub(crate) fn to(target: SocketAddr) -> Self {
        Self::slow(target, 0)
    }

    /// A link that carries so many bytes a second towards that address, and as many as come back.
    pub(crate) fn slow(target: SocketAddr, bytes_per_second: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Mutex::new((Mood::Through, Vec::new()));
        let (busy_until, changed) = (Mutex::new(Instant::now()), Condvar::new());
        let shared = Arc::new(Shared { target, bytes_per_second, busy_until, state, changed });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if accepting.wait_while_silent() == Mood::Through {
                    accepting.forward(near);
                }
            }
        });
        Self { address, shared }
    }

    /// Where to connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes all connections and takes no more.
    pub(crate) fn cut(&self) {
        self.shared.set(Mood::Cut);
    }

    /// Lets nothing through and tells nobody.
    pub(crate) fn silence(&self) {
        self.shared.set(Mood::Silent);
    }

    /// Lets everything through again.
    pub(crate) fn heal(&self) {
        self.shared.set(Mood::Through);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Shared {
    fn set(&self, mood: Mood) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = mood;
        if mood == Mood::Cut {
            for stream in state.1.drain(..) {
                drop(stream.shutdown(Shutdown::Both));
            }
        }
        self.changed.notify_all();
    }

    fn wait_while_silent(&self) -> Mood {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.changed.wait_while(state, |(mood, _)| *mood == Mood::Silent);
        state.unwrap_or_else(PoisonError::into_inner).0
    }

    fn forward(self: &Arc<Self>, near: TcpStream) {
        let Ok(far) = TcpStream::connect(self.target) else { return };
        for stream in [&near, &far] {
            drop(stream.set_nodelay(true));
            let kept = stream.try_clone().expect("a socket has a second handle");
            self.state.lock().unwrap_or_else(PoisonError::into_inner).1.push(kept);
        }
        let ends = (near.try_clone().expect("as above"), far.try_clone().expect("as above"));
        for ((from, to), is_slow) in [(ends, true), ((far, near), false)] {
            let shared = Arc::clone(self);
            thread::spawn(move || shared.copy(from, to, is_slow));
        }
    }

    /// Takes the time that so many bytes take, behind those of other connections.
    fn carry(&self, bytes: usize) {
        let mut busy_until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
        *busy_until = (*busy_until).max(Instant::now())
            + Duration::from_secs_f64(bytes as f64 / f64::from(self.bytes_per_second));
        let time = busy_until.saturating_duration_since(Instant::now());
        drop(busy_until);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_timeout_while(state, time, |(mood, _)| *mood != Mood::Cut));
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, is_slow: bool) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if is_slow && self.bytes_per_second > 0 {
                self.carry(count);
            }
            if self.wait_while_silent() == Mood::Cut || to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        for stream in [from, to] {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}
