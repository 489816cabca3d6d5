//! A device that speaks CoAP, as raw as a test needs it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use jetlinks_bridge::codec::coap::{Code, Kind, Message, MessageBuilder, MessageToken, decode, empty, option};
use jetlinks_bridge::protocol::cipher;
use jetlinks_bridge::session::coap::sign_token_request;
use openssl::ssl::{Ssl, SslContext, SslMethod, SslOptions, SslStream, SslVerifyMode};

use super::registry::now_ms;
use super::{Certificate, Registration, Settings, eventually};

/// How long a peer may take for one answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longest datagram.
const DATAGRAM_BYTES: usize = 64 * 1024;

impl Settings {
    /// With CoAP on a free port, and below DTLS on another.
    pub(crate) fn coap(self, certificate: &Certificate) -> Self {
        self.text("coap.listen", "127.0.0.1:0")
            .text("dtls.listen", "127.0.0.1:0")
            .text("dtls.certificate", &certificate.path())
            .text("dtls.private_key", &certificate.key_path())
            .text("dtls.token_secret", "secret-of-the-tokens")
    }
}

impl Registration {
    /// A device of product1 whose secret is a key of AES-128.
    pub(crate) fn encrypting(id: &str) -> Self {
        Self { secure_key: format!("{id:*<16}"), ..Self::new(id) }
    }
}

/// A device on one UDP socket.
#[derive(Debug)]
pub(crate) struct CoapDevice {
    link: Link,
    next_id: u16,
}

#[derive(Debug)]
enum Link {
    Plain(UdpSocket),
    Dtls(Box<SslStream<Datagrams>>),
}

/// A connected socket as a stream of datagrams.
#[derive(Debug)]
pub(crate) struct Datagrams(pub(crate) UdpSocket);

impl Read for Datagrams {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        receive(&self.0, buffer)
    }
}

impl Write for Datagrams {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.0.send(datagram)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The next datagram. A process that was stopped and goes on hears of an interrupt, and nothing has come.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.recv(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => return received,
        }
    }
}

/// A socket of loopback that speaks with `peer` alone; port 0 is any.
pub(crate) fn socket(own: SocketAddr, peer: SocketAddr) -> UdpSocket {
    // A process that another test starts at this moment may hold a copy of a socket that was closed, until it is another
    // program.
    let socket = eventually("the port is free", PATIENCE, || UdpSocket::bind(own).ok());
    socket.connect(peer).expect("loopback reaches loopback");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    socket
}

/// Any port of 127.0.0.1.
pub(crate) fn anywhere() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)
}

impl CoapDevice {
    /// A device without DTLS.
    pub(crate) fn plain(server: SocketAddr) -> Self {
        Self::plain_from(anywhere(), server)
    }

    /// As [`CoapDevice::plain`], from an address of its own.
    pub(crate) fn plain_from(own: SocketAddr, server: SocketAddr) -> Self {
        Self { link: Link::Plain(socket(own, server)), next_id: 1 }
    }

    /// A device behind a DTLS handshake.
    pub(crate) fn dtls(server: SocketAddr) -> Self {
        Self::dtls_from(anywhere(), server)
    }

    /// As [`CoapDevice::dtls`], from an address of its own.
    pub(crate) fn dtls_from(own: SocketAddr, server: SocketAddr) -> Self {
        Self::try_dtls_from(own, server).unwrap_or_else(|error| panic!("no handshake: {error}"))
    }

    /// As [`CoapDevice::dtls_from`]; an error when the handshake breaks off.
    pub(crate) fn try_dtls_from(own: SocketAddr, server: SocketAddr) -> Result<Self, String> {
        Self::try_dtls_within(own, server, PATIENCE)
    }

    /// As [`CoapDevice::try_dtls_from`], for a way that loses datagrams: the handshake breaks off where an answer takes longer.
    pub(crate) fn try_dtls_within(own: SocketAddr, server: SocketAddr, answer: Duration) -> Result<Self, String> {
        let stream = Datagrams(socket(own, server));
        stream.0.set_read_timeout(Some(answer)).expect("a time-out can be set");
        let mut ssl = Ssl::new(&client_context()).expect("OpenSSL works");
        ssl.set_mtu(1200).expect("OpenSSL works");
        let stream = ssl.connect(stream).map_err(|error| error.to_string())?;
        stream.get_ref().0.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        Ok(Self { link: Link::Dtls(Box::new(stream)), next_id: 1 })
    }

    /// Its address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.socket().local_addr().expect("it is bound")
    }

    /// A message id that it has not used.
    pub(crate) fn message_id(&mut self) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    /// A CON POST to a path in the device's name.
    pub(crate) fn post(&mut self, device: &str, path: &str) -> MessageBuilder {
        let id = self.message_id();
        let token = MessageToken::new(&id.to_be_bytes()).expect("2 bytes are few");
        MessageBuilder::new(Kind::Confirmable, Code::POST, id, token)
            .path(path)
            .option(option::DEVICE_ID, device.as_bytes())
    }

    /// A report whose body is encrypted with the device's key.
    pub(crate) fn encrypted(&mut self, device: &Registration, suffix: &str, json: &str) -> MessageBuilder {
        let key = cipher::key(&device.secure_key).expect("16 bytes");
        self.post(&device.id, &device.topic(suffix)).payload(&cipher::encrypt(key, json.as_bytes()))
    }

    /// Asks for a token.
    pub(crate) fn authenticate(&mut self, device: &Registration) -> Message {
        let payload = format!("{{\"timestamp\":\"{}\"}}", now_ms());
        let signature = sign_token_request(payload.as_bytes(), &device.secure_key);
        let request = self.post(&device.id, "/auth").option(option::SIGNATURE, &signature);
        self.request(&request.payload(payload.as_bytes()))
    }

    /// A token of the device.
    pub(crate) fn token(&mut self, device: &Registration) -> String {
        let answer = self.authenticate(device);
        assert_eq!(answer.code(), Code::CONTENT, "{answer:?}");
        let answer: serde_json::Value = serde_json::from_slice(answer.payload()).expect("the answer is JSON");
        answer["token"].as_str().expect("it has a token").to_owned()
    }

    /// A request with a token and a plain body.
    pub(crate) fn with_token(
        &mut self,
        device: &Registration,
        token: &str,
        suffix: &str,
        json: &str,
    ) -> MessageBuilder {
        let request = self.post(&device.id, &device.topic(suffix));
        request.option(option::TOKEN, token.as_bytes()).payload(json.as_bytes())
    }

    /// Sends a datagram, without DTLS or through the session.
    pub(crate) fn send(&mut self, datagram: &[u8]) {
        match &mut self.link {
            Link::Plain(socket) => drop(socket.send(datagram).expect("loopback takes datagrams")),
            Link::Dtls(stream) => drop(stream.ssl_write(datagram).expect("the session goes on")),
        }
    }

    /// The next message; `None` when there is none in time.
    pub(crate) fn receive(&mut self) -> Option<Message> {
        let mut buffer = vec![0; DATAGRAM_BYTES];
        let bytes = match &mut self.link {
            Link::Plain(socket) => receive(socket, &mut buffer).ok()?,
            Link::Dtls(stream) => stream.ssl_read(&mut buffer).ok()?,
        };
        Some(decode(&buffer[..bytes]).expect("the bridge sends CoAP"))
    }

    /// How long [`CoapDevice::receive`] waits.
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.socket().set_read_timeout(Some(patience)).expect("a time-out can be set");
    }

    /// Sends a request and gives its answer. It comes in the ACK, or, from a bridge that needed more than a second for it, in a
    /// message of its own behind an empty ACK (RFC 7252, section 5.2.2).
    pub(crate) fn request(&mut self, request: &MessageBuilder) -> Message {
        let datagram = request.encode();
        let sent = decode(&datagram).expect("CoAP");
        self.send(&datagram);
        let answer = self.receive().expect("an answer in time");
        assert_eq!((answer.kind(), answer.id()), (Kind::Acknowledgement, sent.id()));
        if answer.code() != Code::EMPTY {
            return answer;
        }
        let answer = self.receive().expect("an answer in time");
        assert_eq!((answer.kind(), answer.token()), (Kind::Confirmable, sent.token()));
        self.send(&empty(Kind::Acknowledgement, answer.id()));
        answer
    }

    /// The certificate that the bridge showed, in DER.
    pub(crate) fn certificate(&self) -> Vec<u8> {
        let Link::Dtls(stream) = &self.link else { panic!("there is no DTLS") };
        stream.ssl().peer_certificate().expect("a server shows one").to_der().expect("it can be written")
    }

    fn socket(&self) -> &UdpSocket {
        match &self.link {
            Link::Plain(socket) => socket,
            Link::Dtls(stream) => &stream.get_ref().0,
        }
    }
}

fn client_context() -> SslContext {
    let mut context = SslContext::builder(SslMethod::dtls_client()).expect("OpenSSL works");
    context.set_verify(SslVerifyMode::NONE);
    context.set_options(SslOptions::NO_QUERY_MTU);
    context.set_read_ahead(true);
    context.build()
}
