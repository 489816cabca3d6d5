//! One MQTT connection, byte by byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use openssl::ssl::{SslConnector, SslConnectorBuilder, SslMethod, SslStream};

use super::certificate::Certificate;
use super::packet::{self, Connect, Packet, Publish};
use super::{Registration, registry};

/// How long an answer may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A TCP connection to the bridge.
pub(crate) fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the bridge listens");
    stream.set_nodelay(true).expect("a connected socket takes options");
    stream.set_write_timeout(Some(PATIENCE)).expect("a connected socket takes options");
    stream.set_read_timeout(Some(PATIENCE)).expect("a connected socket takes options");
    stream
}

/// A TLS connection to a bridge that shows the certificate, made by OpenSSL; `adjust` says what else is so.
pub(crate) fn dial_tls(
    address: SocketAddr,
    server: &Certificate,
    adjust: impl FnOnce(&mut SslConnectorBuilder),
) -> Result<SslStream<TcpStream>, String> {
    let mut connector = SslConnector::builder(SslMethod::tls_client()).expect("OpenSSL speaks TLS");
    connector.set_ca_file(server.path()).expect("the certificate is there");
    adjust(&mut connector);
    connector.build().connect("localhost", dial(address)).map_err(|error| error.to_string())
}

/// Next event on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A packet.
    Packet(Packet),
    /// The end of the connection.
    Closed,
}

/// Transport of the bytes.
pub(crate) trait Carrier: Read + Write {
    /// The connection below all.
    fn tcp(&self) -> &TcpStream;
}

impl Carrier for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Carrier for SslStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref()
    }
}

/// A connection to the bridge. Dropped, it is closed without DISCONNECT.
pub(crate) struct Wire {
    stream: Box<dyn Carrier + Send>,
    received: Vec<u8>,
}

impl Wire {
    /// Opens a connection and sends nothing.
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::over(dial(address))
    }

    /// A connection of that making.
    pub(crate) fn over(carrier: impl Carrier + Send + 'static) -> Self {
        Self { stream: Box::new(carrier), received: Vec::new() }
    }

    /// As [`Wire::connect`], over a connection of that making.
    pub(crate) fn connect_over(carrier: impl Carrier + Send + 'static, device: &Registration) -> Self {
        let mut wire = Self::over(carrier);
        wire.send(&Connect::of(device).bytes());
        assert_eq!(wire.next_packet(), Packet { header: 0x20, body: vec![0, 0] });
        wire
    }

    /// Opens a connection as this device.
    ///
    /// # Panics
    /// When the bridge does not accept it.
    pub(crate) fn connect(address: SocketAddr, device: &Registration) -> Self {
        Self::connect_as(address, &Connect::of(device))
    }

    /// As [`Wire::connect`], with a CONNECT of one's own.
    pub(crate) fn connect_as(address: SocketAddr, connect: &Connect) -> Self {
        let mut wire = Self::open(address);
        wire.send(&connect.bytes());
        assert_eq!(wire.next_packet(), Packet { header: 0x20, body: vec![0, 0] }, "answer to {connect:?}");
        wire
    }

    /// This side's address.
    pub(crate) fn local_address(&self) -> SocketAddr {
        self.stream.tcp().local_addr().expect("a connected socket has an address")
    }

    /// Sends bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the bridge takes the bytes");
    }

    /// Sends bytes to a bridge that may have closed the connection already.
    pub(crate) fn send_regardless(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes));
    }

    /// Publishes JSON.
    pub(crate) fn publish(&mut self, topic: &str, payload: &str, qos: u8, id: u16) {
        self.send(&packet::publish(topic, payload.as_bytes(), qos, id));
    }

    /// Publishes at QoS 1 and waits for the PUBACK.
    pub(crate) fn publish_acknowledged(&mut self, topic: &str, payload: &str, id: u16) {
        self.publish(topic, payload, 1, id);
        assert_eq!(self.next_packet(), Packet::answer(packet::PUBACK, id));
    }

    /// Waits for what comes next.
    ///
    /// # Panics
    /// When nothing comes in time.
    pub(crate) fn next(&mut self) -> Incoming {
        self.next_within(PATIENCE).unwrap_or_else(|| panic!("nothing came within {PATIENCE:?}"))
    }

    /// As [`Wire::next`], `None` when nothing comes in that time.
    pub(crate) fn next_within(&mut self, patience: Duration) -> Option<Incoming> {
        let end = Instant::now() + patience;
        loop {
            if let Some(packet) = self.take_packet() {
                return Some(Incoming::Packet(packet));
            }
            let left = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            self.stream.tcp().set_read_timeout(Some(left)).expect("a connected socket takes options");
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Some(Incoming::Closed),
                Ok(count) => self.received.extend(&buffer[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A reset is an end too: the bridge closed while bytes of this side were on their way.
                Err(_) => return Some(Incoming::Closed),
            }
        }
    }

    /// Waits for a packet.
    ///
    /// # Panics
    /// When the connection ends instead.
    pub(crate) fn next_packet(&mut self) -> Packet {
        match self.next() {
            Incoming::Packet(packet) => packet,
            Incoming::Closed => panic!("the connection ended where a packet was due"),
        }
    }

    /// Waits for a PUBLISH.
    ///
    /// # Panics
    /// When something else comes.
    pub(crate) fn next_publish(&mut self) -> Publish {
        let packet = self.next_packet();
        packet.publish().unwrap_or_else(|| panic!("no PUBLISH but {packet:?}"))
    }

    /// Waits until the bridge closes the connection.
    ///
    /// # Panics
    /// When a packet comes instead.
    pub(crate) fn wait_closed(&mut self) {
        assert_eq!(self.next(), Incoming::Closed);
    }

    /// Says no more, and takes what comes until the bridge closes the connection too.
    pub(crate) fn read_to_end(&mut self) {
        drop(self.stream.tcp().shutdown(Shutdown::Write));
        while let Incoming::Packet(_) = self.next() {}
    }

    /// Answers a command: `success` and the members of `body` go to the reply topic under the command's message id.
    pub(crate) fn reply(&mut self, command: &Publish, body: &str) {
        let message_id = command.json()["messageId"].clone();
        let (timestamp, topic) = (registry::now_ms(), format!("{}/reply", command.topic));
        let payload = format!(r#"{{"messageId":{message_id},"timestamp":{timestamp},{body}}}"#);
        self.publish(&topic, &payload, 0, 0);
    }

    fn take_packet(&mut self) -> Option<Packet> {
        let (mut length, mut shift, mut at) = (0, 0, 1);
        loop {
            let byte = *self.received.get(at)?;
            length |= usize::from(byte & 0x7F) << shift;
            (shift, at) = (shift + 7, at + 1);
            if byte & 0x80 == 0 {
                break;
            }
            assert!(shift < 28, "a length of more than four bytes");
        }
        if self.received.len() < at + length {
            return None;
        }
        let rest = self.received.split_off(at + length);
        let whole = std::mem::replace(&mut self.received, rest);
        Some(Packet { header: whole[0], body: whole[at..].to_vec() })
    }
}
