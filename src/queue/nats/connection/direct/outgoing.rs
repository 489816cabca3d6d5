//! Bytes on their way to the socket.

use std::task::{Context, Poll, ready};
use std::{io, pin::Pin};

use tokio::io::AsyncWrite;

/// Bytes above which the owner writes nothing more into the buffer: records that wait elsewhere are shared with the sessions,
/// and cost less.
const FULL_BYTES: usize = 256 * 1024;

/// A buffer that the largest messages have made larger is given back.
const KEPT_BYTES: usize = 2 * FULL_BYTES;

/// Bytes that the socket has not taken, behind some that it has.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    written: usize,
    /// Whether the socket has bytes that it may not have sent.
    is_unflushed: bool,
}

impl Outgoing {
    /// Where to write more, behind what is there.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Whether the owner may write more.
    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() - self.written < FULL_BYTES
    }

    /// Whether the socket has taken everything.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.len() == self.written
    }

    /// Gives the socket what is there, in one piece; ready when it has taken some.
    pub(super) fn poll_write(
        &mut self,
        socket: Pin<&mut impl AsyncWrite>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let taken = ready!(socket.poll_write(cx, &self.bytes[self.written..]))?;
        if taken == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.is_unflushed = true;
        self.written += taken;
        if self.is_empty() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES);
            self.written = 0;
        } else if self.written >= FULL_BYTES {
            // Not each time: the rest is moved.
            self.bytes.drain(..self.written);
            self.written = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the socket has sent everything.
    pub(super) fn poll_flush(
        &mut self,
        socket: Pin<&mut impl AsyncWrite>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.is_empty() {
            return Poll::Pending;
        }
        if self.is_unflushed {
            ready!(socket.poll_flush(cx))?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}
