//! The connection of a device: TCP or TLS, with or without WebSocket.

mod counters;
mod departure;
mod websocket;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

pub use counters::Counters;
pub use departure::{has_left, has_peer_closed};
pub use websocket::WebSocket;

use crate::transport::tls::TlsStream;
use crate::transport::traffic::Traffic;

/// A connection as a stream of MQTT's bytes.
#[derive(Debug)]
pub enum Socket {
    /// The bytes of MQTT themselves.
    Bare(Stream),
    /// In frames of WebSocket.
    WebSocket(Box<WebSocket>),
}

/// The writing side of a connection, as far as a session's output needs it. Nothing here waits.
pub trait ByteStream {
    /// Writes; 0 when nothing is taken at the moment. Some of what was taken may still wait: see
    /// [`ByteStream::has_unsent`].
    ///
    /// # Errors
    /// The connection is broken.
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Whether bytes were taken that the system does not have yet: they must be flushed. Never with plain TCP.
    fn has_unsent(&self) -> bool {
        false
    }

    /// Bytes that wait here, as far as is known.
    fn held_bytes(&self) -> usize {
        0
    }

    /// Counters of the system for the TCP connection below; `None` where there are none.
    fn counters(&self) -> Option<Counters> {
        None
    }
}

impl ByteStream for Socket {
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Bare(stream) => stream.try_write(bytes),
            Socket::WebSocket(socket) => match socket.poll_write(&mut Context::from_waker(Waker::noop()), bytes) {
                Poll::Ready(written) => written,
                Poll::Pending => Ok(0),
            },
        }
    }

    fn has_unsent(&self) -> bool {
        match self {
            Socket::Bare(stream) => stream.has_unsent(),
            Socket::WebSocket(socket) => socket.has_unsent(),
        }
    }

    fn held_bytes(&self) -> usize {
        match self {
            Socket::Bare(_) => 0,
            Socket::WebSocket(socket) => socket.held_bytes(),
        }
    }

    fn counters(&self) -> Option<Counters> {
        match self {
            Socket::Bare(stream) => stream.tcp().counters(),
            Socket::WebSocket(socket) => socket.stream().tcp().counters(),
        }
    }
}

impl Socket {
    /// The certificate that the client showed, in DER.
    pub fn client_certificate(&self) -> Option<&[u8]> {
        match self {
            Socket::Bare(stream) => stream.client_certificate(),
            Socket::WebSocket(socket) => socket.stream().client_certificate(),
        }
    }

    /// Reads; nothing at the end.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Bare(stream) => Pin::new(stream).poll_read(cx, buffer),
            Socket::WebSocket(socket) => socket.poll_read(cx, buffer),
        }
    }

    /// Writes; what was taken may still wait.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Socket::Bare(stream) => Pin::new(stream).poll_write(cx, bytes),
            Socket::WebSocket(socket) => socket.poll_write(cx, bytes),
        }
    }

    /// Sends what waits.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Bare(stream) => Pin::new(stream).poll_flush(cx),
            Socket::WebSocket(socket) => socket.poll_flush(cx),
        }
    }

    /// Says good-bye in the words of TLS and WebSocket, and that nothing follows.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Bare(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::WebSocket(socket) => socket.poll_close(cx),
        }
    }

    /// Takes what the client still sends until it says that nothing follows; nobody looks at it.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Bare(stream) => stream.tcp_mut().poll_end(cx),
            Socket::WebSocket(socket) => socket.stream_mut().tcp_mut().poll_end(cx),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_read(cx, buffer)
    }
}

/// Bytes to and from a device, encrypted or not.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Tcp(CountedStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<CountedStream>>),
}

impl Stream {
    /// Writes without waiting; 0 when the system takes nothing at the moment. Of what it took, some may still wait: see
    /// [`Stream::has_unsent`].
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(tcp) => match tcp.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                other => other,
            },
            Stream::Tls(tls) => {
                let mut nobody = Context::from_waker(Waker::noop());
                match Pin::new(tls).poll_write(&mut nobody, bytes) {
                    Poll::Ready(written) => written,
                    Poll::Pending => Ok(0),
                }
            }
        }
    }

    /// Whether bytes were taken that the system does not have yet; flushing sends them.
    pub fn has_unsent(&self) -> bool {
        match self {
            Stream::Tcp(_) => false,
            Stream::Tls(tls) => tls.has_unsent(),
        }
    }

    /// The TCP connection below.
    pub fn tcp(&self) -> &CountedStream {
        match self {
            Stream::Tcp(tcp) => tcp,
            Stream::Tls(tls) => tls.below(),
        }
    }

    /// The TCP connection below.
    pub fn tcp_mut(&mut self) -> &mut CountedStream {
        match self {
            Stream::Tcp(tcp) => tcp,
            Stream::Tls(tls) => tls.below_mut(),
        }
    }

    /// The certificate that the client showed, in DER.
    pub fn client_certificate(&self) -> Option<&[u8]> {
        match self {
            Stream::Tcp(_) => None,
            Stream::Tls(tls) => tls.client_certificate(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Stream::Tls(tls) => Pin::new(tls).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Stream::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, parts),
            Stream::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

/// A TCP connection whose bytes are counted, below TLS or WebSocket.
#[derive(Debug)]
pub struct CountedStream {
    socket: TcpStream,
    traffic: Rc<Traffic>,
    /// `None` as soon as reading is nothing but reading from the socket.
    beginning: Option<Box<Beginning>>,
}

/// The state of a connection that has only begun.
#[derive(Debug)]
struct Beginning {
    /// Bytes that were read behind the header of a proxy, to be read first.
    early: Vec<u8>,
    /// How much more may be read; `None` is no bound.
    allowance: Option<usize>,
}

impl CountedStream {
    /// A connection of which `early` was read already. `traffic` counts its bytes, but not those.
    pub fn new(socket: TcpStream, early: Vec<u8>, traffic: Rc<Traffic>) -> Self {
        let beginning = (!early.is_empty()).then(|| Box::new(Beginning { early, allowance: None }));
        Self { socket, traffic, beginning }
    }

    /// Lets so many bytes be read, and fails then.
    pub fn bound(mut self, bytes: usize) -> Self {
        let early = self.beginning.map(|beginning| beginning.early).unwrap_or_default();
        self.beginning = Some(Box::new(Beginning { early, allowance: Some(bytes) }));
        self
    }

    /// Lets any number of bytes be read.
    pub fn unbound(&mut self) {
        if let Some(beginning) = &mut self.beginning {
            beginning.allowance = None;
        }
    }

    /// Writes without waiting.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.try_write(bytes).inspect(|written| self.traffic.note_sent(*written))
    }

    /// The system's counters of the connection.
    pub fn counters(&self) -> Option<Counters> {
        counters::counters(&self.socket)
    }

    /// Whether its client has left, after it had sent these bytes: see [`departure::has_left`].
    pub fn has_left(&self, bytes: &[u8]) -> bool {
        departure::has_left(&self.socket, bytes)
    }

    /// Takes bytes that nobody looks at until the peer's end.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut nowhere = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut nowhere);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.traffic.note_received(buffer.filled().len());
        }
    }

    fn count_sent(&self, written: usize) -> usize {
        self.traffic.note_sent(written);
        written
    }

    fn poll_socket(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.socket).poll_read(cx, buffer);
        self.traffic.note_received(buffer.filled().len() - before);
        outcome
    }
}

impl AsyncRead for CountedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(mut beginning) = this.beginning.take() else { return this.poll_socket(cx, buffer) };
        let before = buffer.filled().len();
        let outcome = if beginning.allowance == Some(0) {
            Poll::Ready(Err(io::ErrorKind::InvalidData.into()))
        } else if beginning.early.is_empty() {
            this.poll_socket(cx, buffer)
        } else {
            let taken = beginning.early.len().min(buffer.remaining());
            buffer.put_slice(&beginning.early[..taken]);
            beginning.early.drain(..taken);
            Poll::Ready(Ok(()))
        };
        let read = buffer.filled().len() - before;
        beginning.allowance = beginning.allowance.map(|allowance| allowance.saturating_sub(read));
        if beginning.allowance.is_some() || !beginning.early.is_empty() {
            this.beginning = Some(beginning);
        }
        outcome
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        Pin::new(&mut this.socket).poll_write(cx, bytes).map_ok(|written| this.count_sent(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        Pin::new(&mut this.socket).poll_write_vectored(cx, parts).map_ok(|written| this.count_sent(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
