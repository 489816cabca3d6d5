//! One session as a state machine: datagrams in, datagrams out, plaintext in between.

use openssl::ssl::{ErrorCode, ShutdownState, Ssl, SslStream};

use super::buffer::DatagramBuffer;
use super::client::Client;
use super::ffi;
use super::flight::MESSAGE_BYTES_MAX;
use super::server::Server;

/// Bytes of a datagram that reaches every device without being fragmented on the way.
const MTU: u32 = 1200;

/// How OpenSSL calls the state of a server that waits for Finished.
const AWAITS_FINISHED: &str = "SSLv3/TLS read change cipher spec";

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
    stream: SslStream<DatagramBuffer>,
    has_buffers: bool,
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
        is_taken.then_some(Self { stream, has_buffers: true })
    }

    /// Prepares a handshake with a server; [`Engine::shake`] begins it. `None` when there is no memory.
    pub fn connect(client: &Client, wire: &DatagramBuffer) -> Option<Self> {
        let mut ssl = Ssl::new(client.context()).ok()?;
        ssl.set_mtu(MTU).ok()?;
        ssl.set_connect_state();
        let stream = SslStream::new(ssl, wire.clone()).ok()?;
        Some(Self { stream, has_buffers: true })
    }

    /// Goes on with the handshake; a datagram may have been put on the wire before.
    pub fn shake(&mut self) -> Progress {
        match self.stream.do_handshake() {
            Ok(()) => Progress::Finished,
            Err(error) if is_waiting(error.code()) => Progress::Waiting,
            Err(_) => Progress::Failed,
        }
    }

    /// Whether a server's next record is encrypted: it has everything that comes before Finished.
    pub fn awaits_finished(&self) -> bool {
        self.stream.ssl().state_string_long() == AWAITS_FINISHED
    }

    /// Reads what a datagram on the wire decrypts to, once for each record.
    pub fn read(&mut self, buffer: &mut [u8]) -> Plain {
        if !self.alloc() {
            return Plain::Ended;
        }
        match self.stream.ssl_read(buffer) {
            Ok(bytes) => Plain::Bytes(bytes),
            // A peer that begins another handshake in parts would make OpenSSL keep them; there is no other handshake.
            Err(error) if is_waiting(error.code()) && self.stream.ssl().is_init_finished() => Plain::Nothing,
            Err(_) => Plain::Ended,
        }
    }

    /// Encrypts an answer; false when the session is broken.
    pub fn send(&mut self, plain: &[u8]) -> bool {
        self.alloc() && self.stream.ssl_write(plain).is_ok()
    }

    /// How long until [`Engine::on_timeout`], in us; `None` when nothing is to be sent again.
    pub fn timeout_us(&mut self) -> Option<u64> {
        ffi::timeout_us(&mut self.stream)
    }

    /// Sends the last flight of the handshake again; false when it has failed.
    pub fn on_timeout(&mut self) -> bool {
        ffi::on_timeout(&mut self.stream)
    }

    /// Tells the peer that the session ends.
    pub fn close(&mut self) {
        if self.alloc() && !self.stream.get_shutdown().contains(ShutdownState::SENT) {
            // A peer that does not hear it finds out by itself.
            let _unsent = self.stream.shutdown();
        }
    }

    /// Gives memory back until the session is used again.
    pub fn rest(&mut self) {
        if self.has_buffers {
            self.has_buffers = !ffi::free_buffers(&mut self.stream);
        }
    }

    fn alloc(&mut self) -> bool {
        if !self.has_buffers {
            self.has_buffers = ffi::alloc_buffers(&mut self.stream);
        }
        self.has_buffers
    }
}

fn is_waiting(code: ErrorCode) -> bool {
    code == ErrorCode::WANT_READ || code == ErrorCode::WANT_WRITE
}
