//! Listening sockets: each worker has its own on the same port, and the kernel spreads connections over them.
//!
//! Sharing a port is for the workers of one process: another bridge on it would take half of the devices unnoticed, so
//! an address that is in use is an error.
//!
//! An IPv6 address such as `[::]` serves IPv4, too, whatever the system's default is, on every listener alike. Where an IPv4
//! address is configured with the same port it serves IPv6 alone, as both could not be bound otherwise.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::Arc;

use anyhow::Context as _;
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{Config, WebSocketConfig};
use crate::transport::tls::TlsServer;
use crate::transport::{ListenerProtocol, Upgrade};

/// Connections that may wait in the backlog of a listening socket, at least and at most; the system may allow fewer
/// (`net.core.somaxconn`). A worker takes them out faster than the least of them come.
const BACKLOG: RangeInclusive<u64> = 512..=4_096;

/// Seconds of `limits.connect_rate` for which the backlog has room. Whoever finds none is heard a second later.
const BACKLOG_SECS: u64 = 2;

/// Backlog of the admin listener.
const ADMIN_BACKLOG: i32 = 1_024;

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

/// The parts of a listening socket beside its address.
#[derive(Debug, Clone, Copy)]
struct Options {
    /// Whether it leaves IPv4 to others.
    only_ipv6: bool,
    /// Connections that may wait for being accepted.
    backlog: i32,
}

/// Ports of IPv4 addresses, of TCP or of UDP.
#[derive(Debug)]
pub struct Ipv4Ports(BTreeSet<u16>);

impl Ipv4Ports {
    /// Those that are configured for TCP.
    pub fn of_tcp(config: &Config) -> Self {
        let mqtt = &config.mqtt;
        let listeners =
            [&mqtt.listen, &mqtt.tls.listen, &mqtt.websocket.listen, &mqtt.websocket_tls.listen, &config.admin.listen];
        Self::of(listeners.into_iter().flatten())
    }

    /// Those that are configured for UDP.
    pub fn of_udp(config: &Config) -> Self {
        Self::of(config.coap.listen.iter().chain(&config.dtls.listen))
    }

    fn of<'a>(addresses: impl Iterator<Item = &'a SocketAddr>) -> Self {
        let ipv4 = addresses.filter(|address| address.is_ipv4()).map(SocketAddr::port);
        // Port 0 becomes another one for each.
        Self(ipv4.filter(|port| *port != 0).collect())
    }

    /// Whether a socket on that address must leave IPv4 to another one.
    fn leave(&self, address: SocketAddr) -> bool {
        address.is_ipv6() && self.0.contains(&address.port())
    }
}

/// Binds every address of MQTT once for each worker; the result is by worker. `tls` must be given when a listener needs it.
pub fn bind_all(config: &Config, tls: Option<&TlsServer>) -> anyhow::Result<Vec<Vec<ListenerPlan>>> {
    let (mqtt, workers) = (&config.mqtt, config.runtime.workers);
    let (websocket, websocket_tls) = (&mqtt.websocket, &mqtt.websocket_tls);
    let listeners = [
        ("mqtt", &mqtt.listen, None, None),
        ("mqtt.tls", &mqtt.tls.listen, tls.cloned(), None),
        ("mqtt.websocket", &websocket.listen, None, Some(websocket)),
        ("mqtt.websocket_tls", &websocket_tls.listen, tls.cloned(), Some(websocket_tls)),
    ];
    let ipv4 = Ipv4Ports::of_tcp(config);
    let backlog = backlog(u64::from(config.limits.connect_rate), workers);
    let mut plans: Vec<Vec<ListenerPlan>> = (0..workers).map(|_| Vec::new()).collect();
    for (name, addresses, tls, websocket) in listeners {
        let protocol = ListenerProtocol { tls, websocket: websocket.map(upgrade).map(Arc::new) };
        for &address in addresses {
            let options = Options { only_ipv6: ipv4.leave(address), backlog };
            let bound = bind(name, address, options, workers).with_context(|| format!("{name}.listen"))?;
            for (plan, listener) in plans.iter_mut().zip(bound) {
                plan.push(ListenerPlan { listener, protocol: protocol.clone() });
            }
        }
    }
    Ok(plans)
}

/// Binds every address of the admin listener.
pub fn bind_admin(config: &Config) -> anyhow::Result<Vec<TcpListener>> {
    let ipv4 = Ipv4Ports::of_tcp(config);
    let bind = |&address: &SocketAddr| {
        let options = Options { only_ipv6: ipv4.leave(address), backlog: ADMIN_BACKLOG };
        let bound = bind("admin", address, options, 1).with_context(|| "admin.listen")?;
        bound.into_iter().next().context("one worker has one listener")
    };
    config.admin.listen.iter().map(bind).collect()
}

/// Backlog of a worker's listening socket.
fn backlog(connect_rate: u64, workers: usize) -> i32 {
    let waiting = (BACKLOG_SECS * connect_rate).div_ceil(workers as u64);
    i32::try_from(waiting.clamp(*BACKLOG.start(), *BACKLOG.end())).unwrap_or(i32::MAX)
}

fn upgrade(config: &WebSocketConfig) -> Upgrade {
    Upgrade {
        path: config.path.as_str().into(),
        origins: config.origins.iter().map(|origin| origin.as_str().into()).collect(),
    }
}

/// Binds an address once for each worker. Port 0 becomes one free port, the same for all.
fn bind(name: &'static str, address: SocketAddr, options: Options, workers: usize) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    let is_shared = workers > 1;
    let mut bound = address;
    if is_shared {
        // SO_REUSEPORT lets every process of the same user share the port; a bind without it fails when another one has it.
        bound = listen(address, options, false).with_context(|| address.to_string())?.local_addr()?;
    }
    for _ in 0..workers {
        let listener = listen(bound, options, is_shared).with_context(|| address.to_string())?;
        bound = listener.local_addr()?;
        listeners.push(listener);
    }
    announce(name, bound);
    Ok(listeners)
}

/// Binds an address for datagrams once for each worker: the kernel gives all datagrams of one peer to the same socket. Port
/// 0 becomes one free port, the same for all.
pub fn bind_datagrams(
    name: &'static str,
    address: SocketAddr,
    ipv4: &Ipv4Ports,
    workers: usize,
) -> anyhow::Result<Vec<UdpSocket>> {
    let only_ipv6 = ipv4.leave(address);
    let mut sockets = Vec::new();
    let is_shared = workers > 1;
    let mut bound = address;
    if is_shared {
        bound = open_datagrams(address, only_ipv6, false).with_context(|| address.to_string())?.local_addr()?;
    }
    for _ in 0..workers {
        let socket = open_datagrams(bound, only_ipv6, is_shared).with_context(|| address.to_string())?;
        bound = socket.local_addr()?;
        sockets.push(socket);
    }
    announce(name, bound);
    Ok(sockets)
}

/// Logs the address of a listener.
fn announce(listener: &'static str, address: SocketAddr) {
    tracing::info!(%listener, %address, "listening");
}

fn listen(address: SocketAddr, options: Options, is_shared: bool) -> anyhow::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(options.only_ipv6)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(is_shared)?;
    socket.set_nonblocking(true)?;
    // Each connection inherits it, which saves a system call. Without it acknowledgements wait for the peer's delayed ACK; where it
    // cannot be set they still arrive.
    let _unset = socket.set_tcp_nodelay(true);
    socket.bind(&address.into())?;
    socket.listen(options.backlog)?;
    Ok(socket.into())
}

fn open_datagrams(address: SocketAddr, only_ipv6: bool, is_shared: bool) -> anyhow::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_ipv6)?;
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
    #![expect(clippy::disallowed_methods, reason = "connects to what it has bound")]

    use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};

    use super::*;

    const PLAIN: Options = Options { only_ipv6: false, backlog: 16 };

    fn ports(addresses: &[SocketAddr]) -> Ipv4Ports {
        Ipv4Ports::of(addresses.iter())
    }

    #[test]
    fn workers_share_a_port_and_nobody_else_does() {
        for workers in [1, 3] {
            for any in [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))] {
                let own = bind("mqtt", any, PLAIN, workers).expect("there are free ports");
                let addresses: Vec<_> = own.iter().map(|own| own.local_addr().expect("it is bound")).collect();
                assert!(addresses.iter().all(|address| *address == addresses[0]), "{addresses:?}");
                for others in [1, 3] {
                    let refused = bind("mqtt", addresses[0], PLAIN, others).expect_err("the port is in use");
                    assert!(format!("{refused:#}").contains("in use"), "{workers} {others}: {refused:#}");
                }
                let own = bind_datagrams("coap", any, &ports(&[]), workers).expect("there are free ports");
                let address = own[0].local_addr().expect("it is bound");
                for others in [1, 3] {
                    let refused = bind_datagrams("coap", address, &ports(&[]), others).expect_err("the port is in use");
                    assert!(format!("{refused:#}").contains("in use"), "{workers} {others}: {refused:#}");
                }
            }
        }
    }

    #[test]
    fn a_connection_sends_small_packets_at_once() {
        for workers in [1, 2] {
            let listeners = bind("mqtt", SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), PLAIN, workers).unwrap();
            let address = listeners[0].local_addr().unwrap();
            let _clients: Vec<_> = (0..16).map(|_| TcpStream::connect(address).unwrap()).collect();
            let mut accepted = Vec::new();
            while accepted.len() < 16 {
                accepted.extend(listeners.iter().filter_map(|listener| listener.accept().ok()));
            }
            assert!(accepted.iter().all(|(connection, _)| connection.nodelay().unwrap()));
        }
    }

    #[test]
    fn an_ipv6_address_leaves_ipv4_alone_where_an_ipv4_address_has_its_port() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let ports = ports(&[address("0.0.0.0:1883"), address("[::]:8883"), address("127.0.0.1:0")]);
        assert!(ports.leave(address("[::]:1883")) && ports.leave(address("[::1]:1883")));
        assert!(!ports.leave(address("[::]:8883")) && !ports.leave(address("[::]:0")));
        assert!(!ports.leave(address("0.0.0.0:1883")), "it has no IPv6 to be alone with");
    }

    #[test]
    fn both_families_can_have_sockets_of_their_own_on_one_port() {
        for workers in [1, 2] {
            let ipv4 = bind("mqtt", SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), PLAIN, workers).unwrap();
            let beside = SocketAddr::from((Ipv6Addr::UNSPECIFIED, ipv4[0].local_addr().unwrap().port()));
            assert!(bind("mqtt", beside, PLAIN, workers).is_err(), "it would take IPv4, too");
            let alone = Options { only_ipv6: true, ..PLAIN };
            let ipv6 = bind("mqtt", beside, alone, workers).unwrap();
            TcpStream::connect((Ipv6Addr::LOCALHOST, beside.port())).unwrap();
            drop(ipv4);
            assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, beside.port())).is_err());
            drop(ipv6);
        }
    }

    #[test]
    fn the_backlog_has_room_for_two_seconds_within_bounds() {
        let cases = [(1, 1, 512), (1_000, 1, 2_000), (2_000, 1, 4_000), (1_500, 2, 1_500), (100_000, 8, 4_096)];
        for (connect_rate, workers, room) in cases {
            assert_eq!(backlog(connect_rate, workers), room, "{connect_rate} a second, {workers} workers");
        }
    }
}
