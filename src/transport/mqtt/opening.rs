//! From an accepted connection to the bytes of MQTT: the header of a proxy, TLS, WebSocket, in that order.

use std::net::SocketAddr;

use bytes::BufMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tungstenite::Error;
use tungstenite::error::ProtocolError;
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, Response, create_response, write_response};
use tungstenite::http::{HeaderValue, StatusCode};

use super::door::{Door, Upgrade};
use super::socket::{Socket, Stream, WebSocket, Wire};
use crate::codec::proxy::{self, Origin};
use crate::protocol::limit::Limits;
use crate::transport::port::Refused;
use crate::transport::tls::TlsServer;
use crate::transport::worker::Worker;

/// Bytes that a client may send until TLS is agreed on, certificates included; whoever sends more is nobody's device,
/// and nothing is known of it yet that it should take memory for.
const TLS_HANDSHAKE_BYTES_MAX: usize = 32 * 1024;

/// Bytes that may wait in TLS for a client that does not read; what is more waits where it is counted.
const TLS_UNSENT_BYTES_MAX: usize = 16 * 1024;

/// Longest request for a WebSocket, in bytes.
const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// Subprotocols of MQTT 3.1.1 and 3.1 (MQTT-6.0.0-3; the older one is what clients of 3.1 ask for).
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// Reads whose the connection is, where a proxy tells: `client` becomes that. Gives what was read behind it.
///
/// # Errors
/// [`Refused::ProxyHeader`], [`Refused::ConnectionLost`].
pub async fn identify(
    worker: &Worker,
    door: &Door,
    socket: &mut TcpStream,
    client: &mut SocketAddr,
) -> Result<Vec<u8>, Refused> {
    let mut early = Vec::new();
    if worker.settings.proxies.contains(client.ip()) {
        let header = read_header(socket, &mut early).await;
        worker.traffic(door.way()).note_received(early.len());
        let header = header?;
        if let Origin::Client(address) = header.origin {
            *client = address;
        }
        early.drain(..header.bytes);
    }
    Ok(early)
}

/// Opens a connection as its door says; `early` was read from it before.
///
/// # Errors
/// Why it cannot be opened. It is closed then; a request for something else than MQTT was answered.
pub async fn open(worker: &Worker, door: &Door, socket: TcpStream, early: Vec<u8>) -> Result<Socket, Refused> {
    let wire = Wire::new(socket, early, worker.traffic(door.way()).clone());
    let stream = match &door.tls {
        None => Stream::Tcp(wire),
        Some(server) => encrypt(server, wire).await?,
    };
    match &door.websocket {
        None => Ok(Socket::Bare(stream)),
        Some(granted) => upgrade(granted, stream).await,
    }
}

/// Reads the header of a proxy, which is at most some hundred bytes.
async fn read_header(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<proxy::Header, Refused> {
    loop {
        match proxy::read(bytes) {
            Ok(Some(header)) => return Ok(header),
            Ok(None) => {}
            Err(_) => return Err(Refused::ProxyHeader),
        }
        read_more(socket, bytes, Limits::FREE_BYTES).await?;
    }
}

/// Reads once, until there are `bytes_max` at most.
pub async fn read_more(
    socket: &mut (impl AsyncReadExt + Unpin),
    bytes: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<(), Refused> {
    let left = bytes_max.saturating_sub(bytes.len());
    match socket.read_buf(&mut bytes.limit(left)).await {
        Ok(read) if read > 0 => Ok(()),
        _ => Err(Refused::ConnectionLost),
    }
}

async fn encrypt(server: &TlsServer, wire: Wire) -> Result<Stream, Refused> {
    let acceptor = TlsAcceptor::from(server.config());
    match acceptor.accept(wire.bound(TLS_HANDSHAKE_BYTES_MAX)).await {
        Ok(mut tls) => {
            let (wire, session) = tls.get_mut();
            wire.unbound();
            session.set_buffer_limit(Some(TLS_UNSENT_BYTES_MAX));
            Ok(Stream::Tls(Box::new(tls)))
        }
        Err(error) => {
            tracing::debug!(%error, "a TLS handshake failed");
            Err(Refused::TlsHandshake)
        }
    }
}

/// Answers the request for a WebSocket.
async fn upgrade(granted: &Upgrade, mut stream: Stream) -> Result<Socket, Refused> {
    let mut bytes = Vec::new();
    let request = loop {
        if !bytes.is_empty() {
            match Request::try_parse(&bytes) {
                Ok(Some((used, request))) => {
                    bytes.drain(..used);
                    break Ok(request);
                }
                Ok(None) if bytes.len() < REQUEST_BYTES_MAX => {}
                Ok(None) => break Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
                Err(Error::Protocol(ProtocolError::WrongHttpMethod)) => break Err(StatusCode::METHOD_NOT_ALLOWED),
                Err(_) => break Err(StatusCode::BAD_REQUEST),
            }
        }
        read_more(&mut stream, &mut bytes, REQUEST_BYTES_MAX).await?;
    };
    let agreed = request.and_then(|request| agree(granted, &request));
    let is_agreed = agreed.is_ok();
    let answer = agreed.unwrap_or_else(refusal);
    let mut text = Vec::new();
    // Nothing in it is no text: names of headers, and values that were made here or parsed as text.
    write_response(&mut text, &answer).map_err(|_| Refused::WebSocketHandshake)?;
    let sent = async {
        stream.write_all(&text).await?;
        stream.flush().await
    };
    sent.await.map_err(|_| Refused::ConnectionLost)?;
    if is_agreed {
        return Ok(Socket::WebSocket(Box::new(WebSocket::new(stream, bytes))));
    }
    // The answer arrives without it as well, mostly.
    let _gone = stream.shutdown().await;
    Err(Refused::WebSocketHandshake)
}

/// The answer to a request, or the status of its refusal.
fn agree(granted: &Upgrade, request: &Request) -> Result<Response, StatusCode> {
    if request.uri().path() != &*granted.path {
        return Err(StatusCode::NOT_FOUND);
    }
    let headers = request.headers();
    if headers.contains_key("Content-Length") || headers.contains_key("Transfer-Encoding") {
        // A proxy that passes a body on would let its bytes be read as frames (RFC 9112, section 11.2).
        return Err(StatusCode::BAD_REQUEST);
    }
    let is_granted = |origin: &HeaderValue| {
        let mut origins = granted.origins.iter();
        origins.len() == 0 || origins.any(|granted| granted.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
    };
    if !headers.get_all("Origin").iter().all(is_granted) {
        // RFC 6455, section 4.2.2.
        return Err(StatusCode::FORBIDDEN);
    }
    let mut response = create_response(request).map_err(|error| match error {
        Error::Protocol(
            ProtocolError::MissingConnectionUpgradeHeader
            | ProtocolError::MissingUpgradeWebSocketHeader
            | ProtocolError::MissingSecWebSocketVersionHeader,
        ) => StatusCode::UPGRADE_REQUIRED,
        _ => StatusCode::BAD_REQUEST,
    })?;
    let offered = headers.get_all("Sec-WebSocket-Protocol");
    let offered = offered.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let chosen = offered.map(str::trim).find_map(|name| SUBPROTOCOLS.iter().find(|&&served| served == name));
    let chosen = chosen.ok_or(StatusCode::BAD_REQUEST)?;
    response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(chosen));
    Ok(response)
}

fn refusal(status: StatusCode) -> Response {
    let mut response = Response::new(());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert("Connection", HeaderValue::from_static("close"));
    headers.insert("Content-Length", HeaderValue::from_static("0"));
    match status {
        StatusCode::UPGRADE_REQUIRED => {
            headers.insert("Upgrade", HeaderValue::from_static("websocket"));
            headers.insert("Sec-WebSocket-Version", HeaderValue::from_static("13"));
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert("Allow", HeaderValue::from_static("GET"));
        }
        _ => {}
    }
    response
}
