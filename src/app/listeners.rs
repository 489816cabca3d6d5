//! Listening sockets: each worker has its own on the same port, and the kernel spreads connections over them.
//!
//! Sharing a port is for the workers of one process: another bridge on it would take half of the devices unnoticed, so
//! an address that is in use is an error.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use anyhow::Context as _;
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{MqttConfig, WebSocketConfig};
use crate::transport::tls::TlsServer;
use crate::transport::{ListenerProtocol, Upgrade};

/// Backlog of a listening socket, in connections.
const BACKLOG: i32 = 4096;

/// Size of the socket buffers for datagrams, in bytes; the system may allow less.
const DATAGRAM_BYTES: usize = 4 << 20;

/// A listener of one worker, before its thread runs.
#[derive(Debug)]
pub struct ListenerPlan {
    /// The socket.
    pub listener: TcpListener,
    /// Its protocol.
    pub protocol: ListenerProtocol,
}

/// Binds every address of MQTT once for each worker; the result is by worker. `tls` must be given when a listener needs it.
pub fn bind_all(
    config: &MqttConfig,
    tls: Option<&TlsServer>,
    workers: usize,
) -> anyhow::Result<Vec<Vec<ListenerPlan>>> {
    let (websocket, websocket_tls) = (&config.websocket, &config.websocket_tls);
    let doors = [
        ("mqtt", &config.listen, None, None),
        ("mqtt.tls", &config.tls.listen, tls.cloned(), None),
        ("mqtt.websocket", &websocket.listen, None, Some(websocket)),
        ("mqtt.websocket_tls", &websocket_tls.listen, tls.cloned(), Some(websocket_tls)),
    ];
    let mut plans: Vec<Vec<ListenerPlan>> = (0..workers).map(|_| Vec::new()).collect();
    for (name, addresses, tls, websocket) in doors {
        let protocol = ListenerProtocol { tls, websocket: websocket.map(upgrade).map(Arc::new) };
        for &address in addresses {
            let bound = bind(name, address, workers).with_context(|| format!("{name}.listen"))?;
            for (plan, listener) in plans.iter_mut().zip(bound) {
                plan.push(ListenerPlan { listener, protocol: protocol.clone() });
            }
        }
    }
    Ok(plans)
}

fn upgrade(config: &WebSocketConfig) -> Upgrade {
    Upgrade {
        path: config.path.as_str().into(),
        origins: config.origins.iter().map(|origin| origin.as_str().into()).collect(),
    }
}

/// Binds an address once for each worker. Port 0 becomes one free port, the same for all.
fn bind(name: &'static str, address: SocketAddr, workers: usize) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    let is_shared = workers > 1;
    let mut bound = address;
    if is_shared {
        // SO_REUSEPORT lets every process of the same user share the port; a bind without it fails when another one has it.
        bound = listen(address, false).with_context(|| address.to_string())?.local_addr()?;
    }
    for _ in 0..workers {
        let listener = listen(bound, is_shared).with_context(|| address.to_string())?;
        bound = listener.local_addr()?;
        listeners.push(listener);
    }
    announce(name, bound);
    Ok(listeners)
}

/// Binds an address for datagrams once for each worker: the kernel gives all datagrams of one peer to the same socket. Port
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

/// Logs the address of a listener.
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
    // A larger buffer holds larger bursts; where the system allows less, that much is used.
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
            let own = bind("mqtt", any, workers).expect("there are free ports");
            let addresses: Vec<_> = own.iter().map(|own| own.local_addr().expect("it is bound")).collect();
            assert!(addresses.iter().all(|address| *address == addresses[0]), "{addresses:?}");
            for others in [1, 3] {
                let refused = bind("mqtt", addresses[0], others).expect_err("the port is in use");
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
