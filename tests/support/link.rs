//! A TCP connection that can be cut, and that can be slow.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
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
    /// As silent, in one direction alone.
    SilentTo(End),
}

/// An end of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Whoever connects.
    Near,
    /// The address that the link leads to.
    Far,
}

/// Bytes that are read at once. A link with a delay reads more: it holds what it has read for the delay.
const CHUNK_BYTES: usize = 16 * 1024;

/// As [`CHUNK_BYTES`], with a delay.
const DELAYED_BYTES: usize = 512 * 1024;

/// Forwards connections to one address until it is cut; ended when dropped.
pub(crate) struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    /// Bytes that it carries in a second towards the target, over all connections; 0 is as much as comes.
    bytes_per_second: AtomicU32,
    /// How long bytes take at least, milliseconds.
    delay_ms: AtomicU32,
    /// When what it has taken is through, and what those have that share with it.
    busy_until: Arc<Mutex<Instant>>,
    /// How often the link forgot its connections; those from before carry nothing.
    forgotten: AtomicU32,
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
        Self::listen(
            SocketAddr::from(([127, 0, 0, 1], 0)),
            target,
            bytes_per_second,
            Arc::new(Mutex::new(Instant::now())),
        )
    }

    /// As [`Link::to`], reached at that address.
    pub(crate) fn at(address: SocketAddr, target: SocketAddr) -> Self {
        Self::listen(address, target, 0, Arc::new(Mutex::new(Instant::now())))
    }

    /// Links to these addresses that share what they carry, as they do at the end of one line.
    pub(crate) fn to_each(targets: &[SocketAddr]) -> Vec<Self> {
        let (any, busy_until) = (SocketAddr::from(([127, 0, 0, 1], 0)), Arc::new(Mutex::new(Instant::now())));
        targets.iter().map(|target| Self::listen(any, *target, 0, Arc::clone(&busy_until))).collect()
    }

    fn listen(address: SocketAddr, target: SocketAddr, bytes_per_second: u32, busy_until: Arc<Mutex<Instant>>) -> Self {
        let listener = TcpListener::bind(address).expect("the port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Mutex::new((Mood::Through, Vec::new()));
        let changed = Condvar::new();
        let (bytes_per_second, delay_ms) = (AtomicU32::new(bytes_per_second), AtomicU32::new(0));
        let shared = Arc::new(Shared {
            target,
            bytes_per_second,
            delay_ms,
            busy_until,
            forgotten: AtomicU32::new(0),
            state,
            changed,
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let age = accepting.forgotten.load(Ordering::Relaxed);
                if accepting.wait_while_silent(End::Far, age) != Mood::Cut {
                    accepting.forward(near, age);
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

    /// Lets nothing through to that end and tells nobody; the other direction works.
    pub(crate) fn silence_to(&self, end: End) {
        self.shared.set(Mood::SilentTo(end));
    }

    /// Carries nothing more of the connections that are there, and tells nobody; new ones fare as before.
    pub(crate) fn forget(&self) {
        self.shared.forgotten.fetch_add(1, Ordering::Relaxed);
    }

    /// Carries so many bytes a second from now on, in the direction of [`Link::slow`]; 0 is as much as comes.
    pub(crate) fn limit(&self, bytes_per_second: u32) {
        self.shared.bytes_per_second.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Holds bytes for that time from now on, at most twice as long, in each direction.
    pub(crate) fn delay(&self, delay: Duration) {
        let delay_ms = u32::try_from(delay.as_millis()).expect("a delay is short");
        self.shared.delay_ms.store(delay_ms, Ordering::Relaxed);
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

    fn wait_while_silent(&self, to: End, age: u32) -> Mood {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_silent = |mood: Mood| {
            let is_forgotten = mood != Mood::Cut && age < self.forgotten.load(Ordering::Relaxed);
            is_forgotten || [Mood::Silent, Mood::SilentTo(to)].contains(&mood)
        };
        let state = self.changed.wait_while(state, |(mood, _)| is_silent(*mood));
        state.unwrap_or_else(PoisonError::into_inner).0
    }

    fn forward(self: &Arc<Self>, near: TcpStream, age: u32) {
        let Ok(far) = TcpStream::connect(self.target) else { return };
        for stream in [&near, &far] {
            drop(stream.set_nodelay(true));
            let kept = stream.try_clone().expect("a socket has a second handle");
            self.state.lock().unwrap_or_else(PoisonError::into_inner).1.push(kept);
        }
        let ends = (near.try_clone().expect("as above"), far.try_clone().expect("as above"));
        for ((from, to), end) in [(ends, End::Far), ((far, near), End::Near)] {
            let shared = Arc::clone(self);
            thread::spawn(move || shared.copy(from, to, end, age));
        }
    }

    /// Takes the time that so many bytes take, behind those of other connections.
    fn carry(&self, bytes: usize, bytes_per_second: u32) {
        let mut busy_until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
        *busy_until =
            (*busy_until).max(Instant::now()) + Duration::from_secs_f64(bytes as f64 / f64::from(bytes_per_second));
        let time = busy_until.saturating_duration_since(Instant::now());
        drop(busy_until);
        self.hold(time);
    }

    /// Waits for that time, unless the link is cut.
    fn hold(&self, time: Duration) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_timeout_while(state, time, |(mood, _)| *mood != Mood::Cut));
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, end: End, age: u32) {
        let mut buffer = vec![0; DELAYED_BYTES];
        loop {
            let delay = Duration::from_millis(self.delay_ms.load(Ordering::Relaxed).into());
            let room = if delay.is_zero() { CHUNK_BYTES } else { DELAYED_BYTES };
            let Ok(count @ 1..) = from.read(&mut buffer[..room]) else { break };
            self.hold(delay);
            let bytes_per_second = self.bytes_per_second.load(Ordering::Relaxed);
            if end == End::Far && bytes_per_second > 0 {
                self.carry(count, bytes_per_second);
            }
            if self.wait_while_silent(end, age) == Mood::Cut || to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        for stream in [from, to] {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}
