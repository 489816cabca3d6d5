//! Ports for servers that have to know theirs before they start.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use socket2::{Domain, Socket, Type};

/// Lowest port that is handed out.
const FIRST: u32 = 12_000;

/// A port of loopback that nobody has, for a server that this test starts, and starts again as often as it likes.
///
/// The port stays reserved until this process ends: it is bound by a socket that does not listen. Linux gives such a port
/// neither to an outgoing connection nor to port 0, and refuses it to the next call of this function in any process. A
/// server that sets `SO_REUSEADDR` may have it, and all servers of the tests do (socket(7)).
///
/// Ports come from below the range of outgoing connections, where next to none is taken.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    static RESERVED: Mutex<Vec<Socket>> = Mutex::new(Vec::new());
    let width = first_ephemeral() - FIRST;
    for _ in 0..width {
        // Processes begin at different places, so that parallel runs rarely meet.
        let number = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(process::id().wrapping_mul(97));
        let port = u16::try_from(FIRST + number % width).expect("the range ends below 65,536");
        if let Some(reserved) = reserve(port) {
            RESERVED.lock().unwrap_or_else(PoisonError::into_inner).push(reserved);
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + width);
}

/// Binds the port as nobody else has; servers that come afterwards may have it too.
fn reserve(port: u16) -> Option<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("there are descriptors left");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into()).ok()?;
    // Set before, it would let this socket have a port that another test has reserved.
    socket.set_reuse_address(true).expect("a socket takes options");
    Some(socket)
}

/// Whether somebody listens there.
pub(crate) fn is_open(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

fn first_ephemeral() -> u32 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .filter(|first| (FIRST + 1_000..=65_535).contains(first))
        .unwrap_or(32_768)
}
