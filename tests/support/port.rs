//! Ports for servers that have to know theirs before they start.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// Lowest port that is handed out.
const FIRST: u32 = 12_000;

/// A free port of loopback, below the range from which the kernel takes the ports of outgoing connections.
///
/// Port 0 would give one of that range, and there a client that tries to reach a stopped server can be given the
/// server's own port and so connect to itself. Another process may still take the port before it is used: whoever
/// starts a server on it has to be ready to try another one.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let width = first_ephemeral() - FIRST;
    for _ in 0..width {
        // Processes begin at different places, so that parallel runs rarely meet.
        let number = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(process::id().wrapping_mul(97));
        let port = u16::try_from(FIRST + number % width).expect("the range ends below 65,536");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + width);
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
