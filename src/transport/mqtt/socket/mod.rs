//! What a device is connected by: TCP or TLS, with or without WebSocket.

mod counters;
mod stream;
mod websocket;
mod wire;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite as _, ReadBuf};

pub use counters::Counters;
pub use stream::Stream;
pub use websocket::WebSocket;
pub use wire::Wire;

/// See the module.
#[derive(Debug)]
pub enum Socket {
    /// The bytes of MQTT themselves.
    Bare(Stream),
    /// In frames of WebSocket.
    WebSocket(Box<WebSocket>),
}

impl Socket {
    /// Writes without waiting; 0 when nothing is taken at the moment. Of what was taken some may still wait: see
    /// [`Socket::has_unsent`].
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Bare(stream) => stream.try_write(bytes),
            Socket::WebSocket(socket) => match socket.poll_write(&mut Context::from_waker(Waker::noop()), bytes) {
                Poll::Ready(written) => written,
                Poll::Pending => Ok(0),
            },
        }
    }

    /// Whether bytes were taken that the system does not have yet: [`Socket::poll_flush`] must be called until it is
    /// ready. Never with plain TCP.
    pub fn has_unsent(&self) -> bool {
        match self {
            Socket::Bare(stream) => stream.has_unsent(),
            Socket::WebSocket(socket) => socket.has_unsent(),
        }
    }

    /// Bytes that wait here, as far as is known.
    pub fn held_bytes(&self) -> usize {
        match self {
            Socket::Bare(_) => 0,
            Socket::WebSocket(socket) => socket.held_bytes(),
        }
    }

    /// What the system counts of the connection below all; `None` where it does not tell.
    pub fn counters(&self) -> Option<Counters> {
        match self {
            Socket::Bare(stream) => stream.wire().counters(),
            Socket::WebSocket(socket) => socket.stream().wire().counters(),
        }
    }

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
            Socket::Bare(stream) => stream.wire_mut().poll_end(cx),
            Socket::WebSocket(socket) => socket.stream_mut().wire_mut().poll_end(cx),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_read(cx, buffer)
    }
}
