//! Counters of the system for a TCP connection.
#![expect(unsafe_code, reason = "asks for a socket option that no crate in use wraps")]

use std::mem;
use std::os::fd::AsRawFd as _;
use std::ptr;

use tokio::net::TcpStream;

/// Bytes that went over a connection, as its system sees it, and when the last of them did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Bytes that came, read or not.
    pub received: u64,
    /// How long ago the last of them came, us.
    pub received_ago_us: u64,
    /// Bytes that the peer's system acknowledged. It acknowledges no more than it has room for, so a peer that stops
    /// reading stops this, too.
    pub taken: u64,
    /// How long ago it last acknowledged anything, us; also an acknowledgement of nothing new, by which a peer without
    /// room says that it is there.
    pub taken_ago_us: u64,
    /// Whether nothing that was written is still to be acknowledged.
    pub is_all_taken: bool,
}

/// The counters of a connection; `None` where the system does not tell.
pub fn counters(socket: &TcpStream) -> Option<Counters> {
    let (info, bytes) = tcp_info(socket)?;
    // Linux 4.6 is the first that fills in all of these fields.
    let needed = mem::offset_of!(libc::tcp_info, tcpi_notsent_bytes) + size_of::<u32>();
    if bytes < needed {
        return None;
    }
    Some(Counters {
        received: info.tcpi_bytes_received,
        received_ago_us: u64::from(info.tcpi_last_data_recv) * 1000,
        taken: info.tcpi_bytes_acked,
        taken_ago_us: u64::from(info.tcpi_last_ack_recv) * 1000,
        is_all_taken: info.tcpi_unacked == 0 && info.tcpi_notsent_bytes == 0,
    })
}

/// The state of a connection, and how many bytes of it the system has filled in.
pub fn tcp_info(socket: &TcpStream) -> Option<(libc::tcp_info, usize)> {
    // SAFETY: `tcp_info` has integers alone, so all zeros are a value of it.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut bytes = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
    // SAFETY: the descriptor is open while the socket is borrowed; both pointers are valid for writes, and the system
    // writes no more than `bytes` to the first.
    let outcome = unsafe {
        let into = ptr::from_mut(&mut info).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, into, &raw mut bytes)
    };
    if outcome != 0 {
        return None;
    }
    Some((info, usize::try_from(bytes).ok()?))
}
