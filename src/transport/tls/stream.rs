//! A TLS connection without buffers of its own while nothing is under way.
//!
//! rustls has two interfaces. The one that tokio-rustls is made of keeps 4 KiB for each connection to read into; here is the
//! other one, `rustls::unbuffered`, which works on bytes that the caller has. Reading and writing go through two buffers
//! that all connections of a thread share ([`Scratch`]). A connection keeps bytes in three cases alone: a record that is
//! not whole yet, text that the reader had no room for, and records that the system does not take yet.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::rustls::server::UnbufferedServerConnection;
use tokio_rustls::rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use tokio_rustls::rustls::{HandshakeKind, ProtocolVersion, ServerConfig};

/// Bytes of the longest record, with its header (RFC 5246 section 6.2.3).
const RECORD_BYTES_MAX: usize = 5 + (1 << 14) + 2048;

/// Bytes of text that go into one record.
const TEXT_BYTES_MAX: usize = 1 << 14;

/// Bytes that wait for a record, or a message of the handshake, to be whole; longer ones are nobody's device.
const INCOMING_BYTES_MAX: usize = 32 * 1024;

/// Bytes of records that may wait for a client that does not read; what is more waits where it is counted.
const OUTGOING_BYTES_MAX: usize = 16 * 1024;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        incoming: vec![0; RECORD_BYTES_MAX].into(),
        outgoing: vec![0; RECORD_BYTES_MAX].into(),
    });
}

/// Buffers that every connection of a thread uses in turn, and leaves empty.
struct Scratch {
    incoming: Box<[u8]>,
    outgoing: Box<[u8]>,
}

/// The server's side of one TLS connection over `S`.
pub struct TlsStream<S> {
    below: S,
    session: UnbufferedServerConnection,
    /// The begin of a record that is not whole yet.
    incoming: Vec<u8>,
    /// Text that was decrypted and not taken yet.
    text: Vec<u8>,
    /// Records, or a part of one, that the system has not taken yet.
    outgoing: Vec<u8>,
    /// Whether the client has said that nothing follows (close_notify).
    has_ended: bool,
    has_said_end: bool,
}

impl<S> fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsStream")
    }
}

impl<S> TlsStream<S> {
    /// The connection below.
    pub fn below(&self) -> &S {
        &self.below
    }

    /// The connection below.
    pub fn below_mut(&mut self) -> &mut S {
        &mut self.below
    }

    /// Whether bytes were taken that the system does not have yet.
    pub fn has_unsent(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Bytes that wait here.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.incoming.capacity() + self.text.capacity() + self.outgoing.capacity()
    }

    /// The certificate that the client showed, in DER.
    pub fn client_certificate(&self) -> Option<&[u8]> {
        self.session.peer_certificates()?.first().map(AsRef::as_ref)
    }

    /// Whether the handshake took up an earlier session by its ticket.
    pub fn is_resumed(&self) -> bool {
        self.session.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Takes records in, whole ones at the begin of `incoming`, and hands out their text; how many bytes of them were taken.
    fn process(&mut self, incoming: &mut [u8], mut take: impl FnMut(&[u8])) -> io::Result<usize> {
        let mut taken = 0;
        loop {
            let UnbufferedStatus { discard, state } = self.session.process_tls_records(&mut incoming[taken..]);
            taken += discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        taken += record.discard;
                        take(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut message)) => {
                    let begin = self.outgoing.len();
                    let bytes = match message.encode(&mut []) {
                        Err(EncodeError::InsufficientSize(size)) => size.required_size,
                        Ok(_) | Err(EncodeError::AlreadyEncoded) => 0,
                    };
                    self.outgoing.resize(begin + bytes, 0);
                    message.encode(&mut self.outgoing[begin..]).map_err(invalid)?;
                }
                // They go out before anything else that is encrypted.
                Ok(ConnectionState::TransmitTlsData(messages)) => messages.done(),
                Ok(ConnectionState::PeerClosed) => self.has_ended = true,
                Ok(_) => return Ok(taken),
                Err(error) => return Err(invalid(error)),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// Agrees on TLS with the client that connected.
    ///
    /// # Errors
    /// The connection is broken, or its client does not speak TLS as it is configured; it was told why.
    pub async fn accept(config: Arc<ServerConfig>, below: S) -> io::Result<Self> {
        let session = UnbufferedServerConnection::new(config).map_err(invalid)?;
        let (incoming, text, outgoing) = (Vec::new(), Vec::new(), Vec::new());
        let mut stream = Self { below, session, incoming, text, outgoing, has_ended: false, has_said_end: false };
        poll_fn(|cx| stream.poll_handshake(cx)).await?;
        Ok(stream)
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let sent = self.poll_send(cx)?;
            let has_finished = !self.session.is_handshaking();
            // With 1.3 what is left are tickets, which no client waits for.
            if has_finished && self.session.protocol_version() == Some(ProtocolVersion::TLSv1_3) {
                return Poll::Ready(Ok(()));
            }
            ready!(sent);
            if has_finished {
                return Poll::Ready(Ok(()));
            }
            // The client may send its first message behind its last one of the handshake.
            ready!(self.poll_receive(cx, &mut ReadBuf::new(&mut [])))?;
        }
    }

    /// Reads once from below, and decrypts what is whole: into `buffer`, and to `text` where that has no room.
    fn poll_receive(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(&mut scratch.incoming);
            ready!(Pin::new(&mut self.below).poll_read(cx, &mut read))?;
            let read = read.filled_mut();
            if read.is_empty() {
                // Without the word of TLS the end may be somebody else's.
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            let mut text = mem::take(&mut self.text);
            let take = |payload: &[u8]| {
                let (now, later) = payload.split_at(payload.len().min(buffer.remaining()));
                buffer.put_slice(now);
                text.extend_from_slice(later);
            };
            let outcome = if self.incoming.is_empty() {
                self.process(read, take).map(|taken| self.incoming = read[taken..].to_vec())
            } else {
                let mut incoming = mem::take(&mut self.incoming);
                incoming.extend_from_slice(read);
                self.process(&mut incoming, take).map(|taken| self.incoming = incoming[taken..].to_vec())
            };
            self.text = text;
            if let Err(error) = outcome {
                self.tell(cx);
                return Poll::Ready(Err(error));
            }
            if self.incoming.len() > INCOMING_BYTES_MAX {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Tells the client why the connection ends, as far as the system takes it at once.
    fn tell(&mut self, cx: &mut Context<'_>) {
        // It is broken in any case.
        let _alert = self.process(&mut [], |_| {});
        let _sent = self.poll_send(cx);
    }

    /// Sends what waits.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sent = 0;
        let outcome = loop {
            let rest = &self.outgoing[sent..];
            if rest.is_empty() {
                break Poll::Ready(Ok(()));
            }
            match Pin::new(&mut self.below).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => sent += written,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        self.outgoing = if sent == self.outgoing.len() { Vec::new() } else { self.outgoing.split_off(sent) };
        outcome
    }

    /// Encrypts up to a record of text, and sends it as far as the system takes it; what of it is left waits.
    fn send_record(&mut self, cx: &mut Context<'_>, text: &[u8]) -> io::Result<()> {
        // Messages of TLS itself, such as a change of keys, come first.
        self.process(&mut [], |_| {})?;
        SCRATCH.with_borrow_mut(|scratch| {
            let status = self.session.process_tls_records(&mut []);
            let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state else {
                return Err(io::ErrorKind::BrokenPipe.into());
            };
            let bytes = traffic.encrypt(text, &mut scratch.outgoing).map_err(invalid)?;
            self.send_encrypted(cx, &scratch.outgoing[..bytes])
        })
    }

    fn send_encrypted(&mut self, cx: &mut Context<'_>, mut records: &[u8]) -> io::Result<()> {
        while self.outgoing.is_empty() && !records.is_empty() {
            match Pin::new(&mut self.below).poll_write(cx, records) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => records = &records[written..],
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        self.outgoing.extend_from_slice(records);
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        loop {
            // Tickets and answers of TLS itself; what the system does not take goes out later.
            let _waits = this.poll_send(cx)?;
            if !this.text.is_empty() {
                let taken = this.text.len().min(buffer.remaining());
                buffer.put_slice(&this.text[..taken]);
                this.text = this.text.split_off(taken);
            }
            if this.has_ended || buffer.filled().len() > before || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            ready!(this.poll_receive(cx, buffer))?;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut taken = 0;
        while taken < bytes.len() {
            if !this.outgoing.is_empty()
                && this.poll_send(cx)?.is_pending()
                && this.outgoing.len() >= OUTGOING_BYTES_MAX
            {
                break;
            }
            let room = OUTGOING_BYTES_MAX.saturating_sub(this.outgoing.len()).min(TEXT_BYTES_MAX);
            let text = &bytes[taken..][..room.min(bytes.len() - taken)];
            this.send_record(cx, text)?;
            taken += text.len();
            if !this.outgoing.is_empty() {
                break;
            }
        }
        if taken == 0 && !bytes.is_empty() { Poll::Pending } else { Poll::Ready(Ok(taken)) }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // They belong into one record.
        let mut text = Vec::new();
        for part in parts {
            let room = TEXT_BYTES_MAX - text.len();
            text.extend_from_slice(&part[..part.len().min(room)]);
        }
        self.poll_write(cx, &text)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.below).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !mem::replace(&mut this.has_said_end, true) {
            this.process(&mut [], |_| {})?;
            SCRATCH.with_borrow_mut(|scratch| {
                let status = this.session.process_tls_records(&mut []);
                let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state else { return Ok(()) };
                let bytes = traffic.queue_close_notify(&mut scratch.outgoing).map_err(invalid)?;
                this.send_encrypted(cx, &scratch.outgoing[..bytes])
            })?;
        }
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.below).poll_shutdown(cx)
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
