//! Listening sockets: each worker has its own on the same port, and the kernel spreads connections over them.
//!
//! Sharing a port is for the workers of one process: another bridge on it would take half of the devices unnoticed, so
//! an address that is in use is an error.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use anyhow::Context as _;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait for a worker to accept them.
const BACKLOG: i32 = 4096;

/// Bytes of datagrams that may wait for a worker; the system may allow less.
const DATAGRAM_BYTES: usize = 4 << 20;

/// Binds every address once for each worker; by worker. Port 0 becomes one free port, the same for all.
pub fn bind(addresses: &[SocketAddr], workers: usize) -> anyhow::Result<Vec<Vec<TcpListener>>> {
    let mut listeners: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    for &address in addresses {
        let is_shared = workers > 1;
        let mut bound = address;
        if is_shared {
            // The system lets every process of the same user share; without the wish to share, it tells of others.
            bound = listen(address, false).with_context(|| address.to_string())?.local_addr()?;
        }
        for own in &mut listeners {
            let listener = listen(bound, is_shared).with_context(|| address.to_string())?;
            bound = listener.local_addr()?;
            own.push(listener);
        }
        announce("mqtt", bound);
    }
    Ok(listeners)
}

/// Binds an address for datagrams once for each worker: the kernel keeps what comes from one address at one socket. Port
/// 0 becomes one free port, the same for all.
pub fn bind_datagrams(name: &'static str, address: SocketAddr, workers: usize) -> anyhow::Result<Vec<UdpSocket>> {
    let mut sockets = Vec::new();
    let is_shared = workers > 1;
    let mut bound = address;
    if is_shared {
        bound = open_datagrams(address, false).with_context(|| address.to_string())?.local_addr()?;
    }
    for _ in 0..workers {
        let socket = open_datagrams(bound, is_shared).with_context(|| address.to_string())?;
        bound = socket.local_addr()?;
        sockets.push(socket);
    }
    announce(name, bound);
    Ok(sockets)
}

/// Says in the log where a listener is.
pub fn announce(listener: &'static str, address: SocketAddr) {
    tracing::info!(%listener, %address, "listening");
}

fn listen(address: SocketAddr, is_shared: bool) -> anyhow::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(is_shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn open_datagrams(address: SocketAddr, is_shared: bool) -> anyhow::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(is_shared)?;
    socket.set_nonblocking(true)?;
    // A burst of devices that the default does not hold is lost; a smaller buffer serves as well otherwise.
    let _smaller = socket.set_recv_buffer_size(DATAGRAM_BYTES);
    let _smaller = socket.set_send_buffer_size(DATAGRAM_BYTES);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn workers_share_a_port_and_nobody_else_does() {
        for workers in [1, 3] {
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let own = bind(&[any], workers).expect("there are free ports");
            let addresses: Vec<_> = own.iter().map(|own| own[0].local_addr().expect("it is bound")).collect();
            assert!(addresses.iter().all(|address| *address == addresses[0]), "{addresses:?}");
            for others in [1, 3] {
                let refused = bind(&addresses[..1], others).expect_err("the port is in use");
                assert!(format!("{refused:#}").contains("in use"), "{workers} {others}: {refused:#}");
            }
            let own = bind_datagrams("coap", any, workers).expect("there are free ports");
            let address = own[0].local_addr().expect("it is bound");
            for others in [1, 3] {
                let refused = bind_datagrams("coap", address, others).expect_err("the port is in use");
                assert!(format!("{refused:#}").contains("in use"), "{workers} {others}: {refused:#}");
            }
        }
    }
}
