//! One device's socket, and its DTLS session if it has one.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use super::Security;
use crate::simulate::counters::End;
use crate::transport::dtls::{DatagramBuffer, Engine, Plain, Progress};

/// A datagram that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// A message of that many bytes.
    Message(usize),
    /// Something that the device need not see.
    Nothing,
}

/// The socket of one simulated device, with its DTLS session.
#[derive(Debug)]
pub(super) struct Link {
    socket: UdpSocket,
    session: Option<Session>,
}

#[derive(Debug)]
struct Session {
    engine: Engine,
    wire: DatagramBuffer,
    is_open: bool,
}

impl Link {
    /// A link to that address; the handshake of a session begins with [`Link::begin`].
    pub(super) async fn new(address: SocketAddr, security: &Security) -> Result<Self, End> {
        let own = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let failed = |error: std::io::Error| End::Failed(error.kind());
        let socket = UdpSocket::bind(SocketAddr::new(own, 0)).await.map_err(failed)?;
        socket.connect(address).await.map_err(failed)?;
        // A socket takes nothing before the runtime knows that it would: the first datagram would be lost.
        socket.writable().await.map_err(failed)?;
        let session = match security {
            Security::Aes => None,
            Security::Dtls(client, wire) => {
                let engine = Engine::connect(client, wire).ok_or(End::Dtls)?;
                Some(Session { engine, wire: wire.clone(), is_open: false })
            }
        };
        Ok(Self { socket, session })
    }

    /// Sends the first flight of the handshake.
    pub(super) fn begin(&mut self) -> Result<(), End> {
        self.shake()
    }

    /// Whether messages can be sent.
    pub(super) fn is_open(&self) -> bool {
        self.session.as_ref().is_none_or(|session| session.is_open)
    }

    /// When the last flight of the handshake must be sent again, from now in ns.
    pub(super) fn timeout_ns(&mut self) -> Option<u64> {
        let session = self.session.as_mut().filter(|session| !session.is_open)?;
        session.engine.timeout_us().map(|us| us.saturating_mul(1000))
    }

    /// Sends the last flight of the handshake again when its time is over.
    pub(super) fn tick(&mut self) -> Result<(), End> {
        if self.timeout_ns() == Some(0) {
            let is_well = self.session.as_mut().is_none_or(|session| session.engine.on_timeout());
            self.flush();
            return if is_well { Ok(()) } else { Err(End::Dtls) };
        }
        Ok(())
    }

    /// Sends a message. One that the socket does not take is lost, as on the way.
    pub(super) fn send(&mut self, message: &[u8]) -> Result<(), End> {
        let Some(session) = &mut self.session else {
            // A datagram that is lost here is lost as on the way.
            let _lost = self.socket.try_send(message);
            return Ok(());
        };
        let is_well = session.engine.send(message);
        self.flush();
        if is_well { Ok(()) } else { Err(End::Dtls) }
    }

    /// Takes the next datagram; its message, if it holds one, is in `buffer`.
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<Result<Arrival, End>> {
        let mut read = ReadBuf::new(buffer);
        match ready!(self.socket.poll_recv(cx, &mut read)) {
            Ok(()) => {}
            // Nobody listens there; a later datagram may find somebody.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                return Poll::Ready(Ok(Arrival::Nothing));
            }
            Err(error) => return Poll::Ready(Err(End::Failed(error.kind()))),
        }
        let bytes = read.filled().len();
        let Some(session) = &mut self.session else { return Poll::Ready(Ok(Arrival::Message(bytes))) };
        session.wire.fill(&buffer[..bytes]);
        if !session.is_open {
            return Poll::Ready(self.shake().map(|()| Arrival::Nothing));
        }
        let plain = session.engine.read(buffer);
        self.flush();
        Poll::Ready(match plain {
            Plain::Bytes(bytes) => Ok(Arrival::Message(bytes)),
            Plain::Nothing => Ok(Arrival::Nothing),
            Plain::Ended => Err(End::Closed),
        })
    }

    /// Says goodbye.
    pub(super) fn close(&mut self) {
        if let Some(session) = self.session.as_mut().filter(|session| session.is_open) {
            session.engine.close();
            self.flush();
        }
    }

    fn shake(&mut self) -> Result<(), End> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let progress = session.engine.shake();
        session.is_open = progress == Progress::Finished;
        self.flush();
        if progress == Progress::Failed { Err(End::Dtls) } else { Ok(()) }
    }

    fn flush(&mut self) {
        if let Some(session) = &self.session {
            // As in `send`.
            session.wire.drain(|datagram| drop(self.socket.try_send(datagram)));
        }
    }
}
