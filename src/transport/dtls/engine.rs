//! One session as a state machine: datagrams in, datagrams out, plaintext in between.

use std::io::Write as _;

use openssl::ssl::{ErrorCode, ShutdownState, Ssl, SslStream};

use super::buffer::DatagramBuffer;
use super::client::Client;
use super::ffi;
use super::flight::MESSAGE_BYTES_MAX;
use super::protection::Protection;
use super::record::{ALERT, APPLICATION_DATA, HANDSHAKE};
use super::server::Server;

/// Bytes of a datagram that reaches every device without being fragmented on the way.
const MTU: u32 = 1200;

/// How OpenSSL calls the state of a server that waits for Finished.
const AWAITS_FINISHED: &str = "SSLv3/TLS read change cipher spec";

/// First byte of a ClientHello.
const CLIENT_HELLO: u8 = 1;

/// Level of an alert that is not fatal.
const WARNING: u8 = 1;

/// Alert at the end of a session (RFC 5246 section 7.2.1).
const CLOSE_NOTIFY: [u8; 2] = [WARNING, 0];

/// Answer to a hello within a session (RFC 5246 section 7.2.2).
const NO_RENEGOTIATION: [u8; 2] = [WARNING, 100];

/// How far a handshake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The peer has to say something.
    Waiting,
    /// Both sides are sure of each other.
    Finished,
    /// It cannot go on.
    Failed,
}

/// The outcome of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain {
    /// That many bytes.
    Bytes(usize),
    /// Nothing more at this moment.
    Nothing,
    /// The peer has ended the session, or it is broken.
    Ended,
}

/// Bytes that an engine has to send lie in its [`DatagramBuffer`] after every call.
#[derive(Debug)]
pub struct Engine {
    wire: DatagramBuffer,
    /// OpenSSL, until nothing of the handshake can be asked for again: a client is sure of that when it is finished, a server
    /// when the peer has said something.
    stream: Option<Handshaking>,
    /// `Some` once the handshake is finished.
    protection: Option<Protection>,
}

#[derive(Debug)]
struct Handshaking {
    stream: SslStream<DatagramBuffer>,
    has_buffers: bool,
    /// Number behind the last protected record that OpenSSL has made.
    records_end: u64,
}

impl Engine {
    /// Begins a handshake with a ClientHello whose cookie is good; `None` when OpenSSL does not take it.
    pub fn accept(server: &Server, wire: &DatagramBuffer, hello: &[u8]) -> Option<Self> {
        let mut ssl = Ssl::new(&server.context()).ok()?;
        ssl.set_mtu(MTU).ok()?;
        ssl.set_accept_state();
        let mut stream = SslStream::new(ssl, wire.clone()).ok()?;
        ffi::limit_messages(&mut stream, MESSAGE_BYTES_MAX);
        wire.fill(hello);
        let is_taken = ffi::listen(&mut stream);
        is_taken.then(|| Self::new(wire, stream))
    }

    /// Prepares a handshake with a server; [`Engine::shake`] begins it. `None` when there is no memory.
    pub fn connect(client: &Client, wire: &DatagramBuffer) -> Option<Self> {
        let mut ssl = Ssl::new(client.context()).ok()?;
        ssl.set_mtu(MTU).ok()?;
        ssl.set_connect_state();
        let stream = SslStream::new(ssl, wire.clone()).ok()?;
        Some(Self::new(wire, stream))
    }

    fn new(wire: &DatagramBuffer, stream: SslStream<DatagramBuffer>) -> Self {
        let stream = Handshaking { stream, has_buffers: true, records_end: 0 };
        Self { wire: wire.clone(), stream: Some(stream), protection: None }
    }

    /// Goes on with the handshake; a datagram may have been put on the wire before.
    pub fn shake(&mut self) -> Progress {
        let Some(openssl) = &mut self.stream else { return Progress::Finished };
        let progress = openssl.stream.do_handshake();
        openssl.note_records(&self.wire);
        match progress {
            Ok(()) => {
                let ssl = openssl.stream.ssl();
                let is_client = !ssl.is_server();
                self.protection = Protection::of(ssl);
                if is_client {
                    self.leave_openssl();
                }
                Progress::Finished
            }
            Err(error) if is_waiting(error.code()) => Progress::Waiting,
            Err(_) => Progress::Failed,
        }
    }

    /// Whether a server's next record is encrypted: it has everything that comes before Finished.
    pub fn awaits_finished(&self) -> bool {
        self.stream.as_ref().is_some_and(|openssl| openssl.stream.ssl().state_string_long() == AWAITS_FINISHED)
    }

    /// Reads what a datagram on the wire decrypts to, once for each record. `buffer` has room for the longest one.
    pub fn read(&mut self, buffer: &mut [u8]) -> Plain {
        while let Some(protection) = &mut self.protection {
            let opened = self.wire.take_record(|record| (record.content, protection.open(record, buffer)));
            match opened {
                Some((APPLICATION_DATA, Some(bytes))) => {
                    self.leave_openssl();
                    return Plain::Bytes(bytes);
                }
                Some((ALERT, Some(bytes))) if is_end(&buffer[..bytes]) => {
                    self.leave_openssl();
                    return Plain::Ended;
                }
                Some((HANDSHAKE, Some(_))) if buffer[0] == CLIENT_HELLO && self.stream.is_none() => {
                    self.write(ALERT, &NO_RENEGOTIATION);
                }
                Some(_) => {}
                None if self.stream.is_none() => return Plain::Nothing,
                None => {
                    self.wire.rewind();
                    break;
                }
            }
        }
        // Perhaps the peer asks for the end of the handshake again.
        let Some(openssl) = &mut self.stream else { return Plain::Ended };
        if !openssl.alloc() {
            return Plain::Ended;
        }
        let read = openssl.stream.ssl_read(buffer);
        openssl.note_records(&self.wire);
        match read {
            Ok(bytes) => Plain::Bytes(bytes),
            // A peer that begins another handshake in parts would make OpenSSL keep them; there is no other handshake.
            Err(error) if is_waiting(error.code()) && openssl.stream.ssl().is_init_finished() => Plain::Nothing,
            Err(_) => Plain::Ended,
        }
    }

    /// Encrypts an answer; false when the session is broken.
    pub fn send(&mut self, plain: &[u8]) -> bool {
        let Some(openssl) = &mut self.stream else { return self.write(APPLICATION_DATA, plain) };
        let is_well = openssl.alloc() && openssl.stream.ssl_write(plain).is_ok();
        openssl.note_records(&self.wire);
        is_well
    }

    /// How long until [`Engine::on_timeout`], in us; `None` when nothing is to be sent again.
    pub fn timeout_us(&mut self) -> Option<u64> {
        ffi::timeout_us(&mut self.stream.as_mut()?.stream)
    }

    /// Sends the last flight of the handshake again; false when it has failed.
    pub fn on_timeout(&mut self) -> bool {
        let Some(openssl) = &mut self.stream else { return true };
        let is_well = ffi::on_timeout(&mut openssl.stream);
        openssl.note_records(&self.wire);
        is_well
    }

    /// Tells the peer that the session ends.
    pub fn close(&mut self) {
        match &mut self.stream {
            // A peer that does not hear it finds out by itself.
            None => drop(self.write(ALERT, &CLOSE_NOTIFY)),
            Some(openssl) => {
                if openssl.alloc() && !openssl.stream.get_shutdown().contains(ShutdownState::SENT) {
                    let _unsent = openssl.stream.shutdown();
                }
            }
        }
    }

    /// Gives memory back until the session is used again.
    pub fn rest(&mut self) {
        if let Some(openssl) = &mut self.stream
            && openssl.has_buffers
        {
            openssl.has_buffers = !ffi::free_buffers(&mut openssl.stream);
        }
    }

    /// Goes on without OpenSSL, where the protection of records is known.
    fn leave_openssl(&mut self) {
        if let (Some(protection), Some(openssl)) = (&mut self.protection, &self.stream) {
            protection.begin(openssl.records_end);
            self.stream = None;
        }
    }

    fn write(&mut self, content: u8, plain: &[u8]) -> bool {
        let record = self.protection.as_mut().and_then(|protection| protection.seal(content, plain));
        record.is_some_and(|record| self.wire.write_all(&record).is_ok())
    }
}

impl Handshaking {
    fn alloc(&mut self) -> bool {
        if !self.has_buffers {
            self.has_buffers = ffi::alloc_buffers(&mut self.stream);
        }
        self.has_buffers
    }

    /// Looks at what OpenSSL has written.
    fn note_records(&mut self, wire: &DatagramBuffer) {
        self.records_end = self.records_end.max(wire.records_end());
    }
}

/// Whether an alert ends the session: any fatal one, and close_notify (RFC 5246 section 7.2).
fn is_end(alert: &[u8]) -> bool {
    !matches!(alert, [WARNING, description] if *description != CLOSE_NOTIFY[1])
}

fn is_waiting(code: ErrorCode) -> bool {
    code == ErrorCode::WANT_READ || code == ErrorCode::WANT_WRITE
}
