//! A WebSocket as a stream of bytes (RFC 6455; MQTT 3.1.1, section 6).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Stream;
use crate::codec::websocket::{self, Decoder, Failure, NORMAL_CLOSURE, Opcode};
use crate::transport::turn::poll_again_behind_others;

/// Longest payload of a frame that is written, in bytes: what of it the system does not take at once is kept.
const FRAME_BYTES_MAX: usize = 16 * 1024;

/// With so many bytes unsent pings go unanswered: the client does not read anyway.
const PONG_UNSENT_BYTES_MAX: usize = 1024;

/// The server's side of one WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    stream: Stream,
    decoder: Decoder,
    /// Bytes that were read behind the request, to be taken first.
    early: Vec<u8>,
    /// The rest of frames that the system did not take whole.
    unsent: Vec<u8>,
    /// Whether the client said the last word, or is told so.
    has_ended: bool,
    is_closing: bool,
}

impl WebSocket {
    /// A WebSocket right behind its opening handshake; `early` is what followed the request.
    pub fn new(stream: Stream, early: Vec<u8>) -> Self {
        Self { stream, decoder: Decoder::default(), early, unsent: Vec::new(), has_ended: false, is_closing: false }
    }

    /// The stream below.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The stream below.
    pub fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Whether bytes were taken that the system does not have yet.
    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty() || self.stream.has_unsent()
    }

    /// Bytes that wait here.
    pub fn held_bytes(&self) -> usize {
        self.unsent.capacity() + self.early.capacity()
    }

    /// Reads data; nothing at the end of the stream, as a close frame is one.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.has_ended {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        if self.early.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        } else {
            let taken = self.early.len().min(buffer.remaining());
            buffer.put_slice(&self.early[..taken]);
            self.early.drain(..taken);
            self.early.shrink_to_fit();
        }
        let bytes = &mut buffer.filled_mut()[before..];
        if bytes.is_empty() {
            self.has_ended = true;
            return Poll::Ready(Ok(()));
        }
        let decoded = self.decoder.decode(bytes);
        buffer.set_filled(before + decoded.data_bytes);
        if decoded.has_ping {
            let payload = self.decoder.take_ping();
            if self.unsent.len() <= PONG_UNSENT_BYTES_MAX {
                websocket::write_frame(Opcode::Pong, &payload, &mut self.unsent);
            }
        }
        if let Some(end) = decoded.end {
            self.has_ended = true;
            self.close_with(end.map_or_else(Failure::status, |()| NORMAL_CLOSURE));
        }
        if !self.unsent.is_empty() {
            // What the system does not take at once is sent when it does; a client that is gone shows at the next read, when
            // what it said before is taken in.
            let _later = self.poll_flush(cx);
        }
        if decoded.data_bytes == 0 && !self.has_ended {
            // Frames without data are no reason to keep others waiting.
            poll_again_behind_others(cx);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes a frame of as many of the bytes as one may have; the frame counts as written once it is begun.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.unsent.is_empty() {
            ready!(self.poll_unsent(cx))?;
        }
        let payload = &bytes[..bytes.len().min(FRAME_BYTES_MAX)];
        let (header, header_bytes) = websocket::header(Opcode::Binary, payload.len());
        let header = &header[..header_bytes];
        let parts = [IoSlice::new(header), IoSlice::new(payload)];
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &parts))?;
        let unsent_header = &header[written.min(header.len())..];
        let unsent_payload = &payload[written.saturating_sub(header.len())..];
        if !unsent_header.is_empty() || !unsent_payload.is_empty() {
            self.unsent.extend_from_slice(unsent_header);
            self.unsent.extend_from_slice(unsent_payload);
        }
        Poll::Ready(Ok(payload.len()))
    }

    /// Sends what waits.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Ends the connection in good order: a close frame, then what is below.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.close_with(NORMAL_CLOSURE);
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn close_with(&mut self, status: u16) {
        if !self.is_closing {
            self.is_closing = true;
            websocket::write_frame(Opcode::Close, &status.to_be_bytes(), &mut self.unsent);
        }
    }

    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.unsent))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.drain(..written);
        }
        // An idle connection holds no buffer.
        self.unsent = Vec::new();
        Poll::Ready(Ok(()))
    }
}
