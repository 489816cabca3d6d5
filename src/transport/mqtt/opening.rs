//! From an accepted connection to the bytes of MQTT: the header of a proxy, TLS, WebSocket, in that order.

use std::net::SocketAddr;

use bytes::BufMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::upgrade::{Answer, REQUEST_BYTES_MAX, answer};
use super::{ListenerProtocol, Upgrade};
use crate::codec::proxy::{self, Origin};
use crate::protocol::limit::Limits;
use crate::transport::refused::Refused;
use crate::transport::socket::{self, CountedStream, Socket, Stream, WebSocket};
use crate::transport::tls::{TlsServer, TlsStream};
use crate::transport::traits::TransportKind;
use crate::transport::worker::Worker;

/// Bytes that a client may send until TLS is agreed on, certificates included; whoever sends more is nobody's device,
/// and nothing is known of it yet that it should take memory for.
const TLS_HANDSHAKE_BYTES_MAX: usize = 32 * 1024;

/// Reads whose the connection is, where a proxy tells: `client` becomes that. Gives what was read behind it.
///
/// # Errors
/// [`Refused::ProxyHeader`], [`Refused::ConnectionLost`].
pub async fn identify(
    worker: &Worker,
    protocol: &ListenerProtocol,
    socket: &mut TcpStream,
    client: &mut SocketAddr,
) -> Result<Vec<u8>, Refused> {
    let mut early = Vec::new();
    if worker.settings.proxies.contains(client.ip()) {
        let header = read_header(socket, &mut early).await;
        worker.traffic(protocol.kind()).note_received(early.len());
        let header = header?;
        if let Origin::Client(address) = header.origin {
            *client = address;
        }
        early.drain(..header.bytes);
    }
    Ok(early)
}

/// Whether a client has left while its connection waited for its turn; `early` was read from it before.
pub fn has_left(protocol: &ListenerProtocol, socket: &TcpStream, early: &[u8]) -> bool {
    match protocol.kind() {
        TransportKind::Tcp => socket::has_left(socket, early),
        // Before its CONNECT it has to wait for answers.
        TransportKind::Tls | TransportKind::WebSocket | TransportKind::WebSocketTls => socket::has_peer_closed(socket),
    }
}

/// Opens a connection by the protocol of its listener; `early` was read from it before.
///
/// # Errors
/// Why it cannot be opened. It is closed then; a request for something else than MQTT was answered.
pub async fn open(
    worker: &Worker,
    protocol: &ListenerProtocol,
    socket: TcpStream,
    early: Vec<u8>,
) -> Result<Socket, Refused> {
    let tcp = CountedStream::new(socket, early, worker.traffic(protocol.kind()).clone());
    let stream = match &protocol.tls {
        None => Stream::Tcp(tcp),
        // Most of what opening takes; without TLS, or before it, nobody needs it.
        Some(server) => Box::pin(encrypt(worker, server, tcp)).await?,
    };
    match &protocol.websocket {
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

async fn encrypt(worker: &Worker, server: &TlsServer, tcp: CountedStream) -> Result<Stream, Refused> {
    match TlsStream::accept(server.config(), tcp.bound(TLS_HANDSHAKE_BYTES_MAX)).await {
        Ok(mut tls) => {
            tls.below_mut().unbound();
            worker.core.borrow_mut().meter().tls_handshake(tls.is_resumed());
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
    let (used, text) = loop {
        match answer(granted, &bytes) {
            Answer::Incomplete => read_more(&mut stream, &mut bytes, REQUEST_BYTES_MAX).await?,
            Answer::Agreed { used, text } => break (Some(used), text),
            Answer::Refused { text } => break (None, text),
        }
    };
    let sent = async {
        stream.write_all(&text).await?;
        stream.flush().await
    };
    sent.await.map_err(|_| Refused::ConnectionLost)?;
    if let Some(used) = used {
        bytes.drain(..used);
        return Ok(Socket::WebSocket(Box::new(WebSocket::new(stream, bytes))));
    }
    // The answer arrives without it as well, mostly.
    let _gone = stream.shutdown().await;
    Err(Refused::WebSocketHandshake)
}
