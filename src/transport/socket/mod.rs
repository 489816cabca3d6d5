//! The connection of a device: TCP or TLS, with or without WebSocket.

mod counters;
mod departure;
mod stream;
mod websocket;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite as _, ReadBuf};

pub use counters::Counters;
pub use departure::{has_left, has_peer_closed};
pub use stream::{CountedStream, Stream};
pub use websocket::WebSocket;

/// See the module.
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
