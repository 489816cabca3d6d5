//! The way of a direct connection to one of its servers: which, when, and as whom.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_nats::rustls::pki_types::ServerName;
use async_nats::{ConnectError, ConnectErrorKind, ConnectInfo, Protocol, Server, ServerAddr, ServerInfo};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Socket;
use super::driver::{broken, objection};
use crate::queue::nats::connection::credentials::Identity;
use crate::queue::nats::connection::log::ConnectionLog;
use crate::queue::nats::connection::{Access, CONNECT_TIMEOUT, tls};
use crate::queue::nats::settings::NatsTlsSettings;
use crate::queue::nats::wire::{ServerOp, format, parse};
use crate::queue::pause_before;

/// Servers that are remembered: those of the settings, and of what servers tell of others as many as fit.
const SERVERS_MAX: usize = 256;

/// Finds a server, for as long as it takes.
pub(in crate::queue::nats::connection) struct Connector {
    servers: Vec<Server>,
    identity: Identity,
    tls: NatsTlsSettings,
    name: String,
    log: ConnectionLog,
}

/// A connection that the server has accepted.
pub(super) struct Opened {
    pub(super) socket: Box<dyn Socket>,
    /// Bytes that came behind the handshake.
    pub(super) unread: BytesMut,
    pub(super) info: ServerInfo,
}

impl Connector {
    pub(in crate::queue::nats::connection) fn new(access: &Access, log: ConnectionLog) -> Self {
        Self {
            servers: access.servers.iter().map(|addr| server(addr.clone(), false)).collect(),
            identity: access.identity.clone(),
            tls: access.settings.tls.clone(),
            name: access.settings.connection_name.clone(),
            log,
        }
    }

    /// How many servers are known.
    pub(super) fn servers(&self) -> usize {
        self.servers.len()
    }

    /// Reads what a server says about itself, and remembers the others that it names; `None` where it cannot be read.
    pub(super) fn learn(&mut self, json: &[u8]) -> Option<ServerInfo> {
        let info: ServerInfo = serde_json::from_slice(json).ok()?;
        for addr in info.connect_urls.iter().filter_map(|url| url.parse::<ServerAddr>().ok()) {
            if self.servers.len() < SERVERS_MAX && !self.servers.iter().any(|server| server.addr == addr) {
                self.servers.push(server(addr, true));
            }
        }
        Some(info)
    }

    /// Tries the servers, those first that have failed least, until one accepts. A server that does not know the bridge ends
    /// a round: the others, of the same cluster, do not know it either.
    pub(super) async fn connect(&mut self) -> Opened {
        let mut attempts = 0;
        loop {
            self.log.look_back(&self.servers);
            for addr in self.round() {
                attempts += 1;
                tokio::time::sleep(pause_before(attempts)).await;
                let result = self.try_server(&addr).await;
                let entry = self.servers.iter_mut().find(|server| server.addr == addr);
                match result {
                    Ok(opened) => {
                        if let Some(entry) = entry {
                            (entry.did_connect, entry.failed_attempts, entry.last_error) = (true, 0, None);
                        }
                        return opened;
                    }
                    Err(error) => {
                        if let Some(entry) = entry {
                            entry.failed_attempts += 1;
                            entry.last_error = Some(cause(&error));
                        }
                        let kind = error.kind();
                        if matches!(kind, ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication) {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Every server, in an order by chance among those that have failed as often.
    fn round(&self) -> Vec<ServerAddr> {
        let mut servers: Vec<(usize, u64, &Server)> = self
            .servers
            .iter()
            .map(|server| (server.failed_attempts, getrandom::u64().unwrap_or_default(), server))
            .collect();
        servers.sort_by_key(|(failed, chance, _)| (*failed, *chance));
        servers.into_iter().map(|(.., server)| server.addr.clone()).collect()
    }

    async fn try_server(&mut self, addr: &ServerAddr) -> Result<Opened, ConnectError> {
        let found =
            addr.socket_addrs().await.map_err(|error| ConnectError::with_source(ConnectErrorKind::Dns, error))?;
        let found: Vec<SocketAddr> = found.collect();
        let mut last = ConnectError::with_source(ConnectErrorKind::Dns, "no addresses resolved");
        for address in found {
            match tokio::time::timeout(CONNECT_TIMEOUT, self.open(addr, address)).await {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(error)) => last = error,
                Err(_) => last = ConnectError::new(ConnectErrorKind::TimedOut),
            }
        }
        Err(last)
    }

    async fn open(&mut self, addr: &ServerAddr, address: SocketAddr) -> Result<Opened, ConnectError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut opening = Opening { socket: stream, unread: BytesMut::new() };
        let info = opening.info(self).await?;
        let is_required = self.tls != NatsTlsSettings::default() || addr.tls_required();
        let mut opening: Opening<Box<dyn Socket>> = if is_required || info.tls_required {
            self.encrypt(opening, addr).await?
        } else {
            Opening { socket: Box::new(opening.socket), unread: opening.unread }
        };
        let mut hello = Vec::new();
        format::connect(&mut hello, &self.introduction(&info, is_required).await?);
        format::ping(&mut hello);
        opening.socket.write_all(&hello).await?;
        opening.socket.flush().await?;
        opening.accepted(self).await?;
        Ok(Opened { socket: opening.socket, unread: opening.unread, info })
    }

    async fn encrypt(
        &self,
        Opening { socket, unread }: Opening<TcpStream>,
        addr: &ServerAddr,
    ) -> Result<Opening<Box<dyn Socket>>, ConnectError> {
        // Nothing that came before the handshake of TLS may count behind it: anybody may have written it.
        if !unread.is_empty() {
            return Err(ConnectError::with_source(ConnectErrorKind::Tls, "the server says more before the handshake"));
        }
        let tls = self.tls.clone();
        let config = tokio::task::spawn_blocking(move || tls::client_config(&tls)).await;
        let failed = |error| ConnectError::with_source(ConnectErrorKind::Tls, error);
        let config = config.map_err(|error| failed(error.into()))?.map_err(failed)?;
        let name = ServerName::try_from(addr.host().to_owned()).map_err(|error| failed(error.into()))?;
        let socket = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
        Ok(Opening { socket: Box::new(socket), unread })
    }

    /// The JSON of CONNECT.
    async fn introduction(&self, info: &ServerInfo, tls_required: bool) -> Result<Vec<u8>, ConnectError> {
        let failed = |error: async_nats::Error| ConnectError::with_source(ConnectErrorKind::Authentication, error);
        let auth = self.identity.prove(info.nonce.clone().into_bytes()).await.map_err(|error| failed(error.into()))?;
        let connect = ConnectInfo {
            verbose: false,
            pedantic: false,
            user_jwt: auth.jwt,
            nkey: auth.nkey,
            signature: auth.signature.map(|signature| URL_SAFE_NO_PAD.encode(signature)),
            name: Some(self.name.clone()),
            echo: true,
            lang: "rust".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: Protocol::Dynamic,
            tls_required,
            user: auth.username,
            pass: auth.password,
            auth_token: auth.token,
            headers: true,
            no_responders: true,
        };
        serde_json::to_vec(&connect).map_err(|error| failed(error.into()))
    }
}

fn server(addr: ServerAddr, is_discovered: bool) -> Server {
    Server { addr, failed_attempts: 0, did_connect: false, is_discovered, last_error: None }
}

/// The error as it is logged; of a name that does not resolve, what the system says.
fn cause(error: &ConnectError) -> String {
    let source = std::error::Error::source(error).filter(|_| error.kind() == ConnectErrorKind::Dns);
    source.map_or_else(|| error.to_string(), ToString::to_string)
}

/// A connection before the server has accepted it.
struct Opening<S> {
    socket: S,
    unread: BytesMut,
}

impl<S: Socket> Opening<S> {
    async fn info(&mut self, connector: &mut Connector) -> Result<ServerInfo, ConnectError> {
        loop {
            match parse(&self.unread).map_err(broken)? {
                Some((ServerOp::Info(json), bytes)) => {
                    let info = connector.learn(json).ok_or(io::Error::from(io::ErrorKind::InvalidData))?;
                    self.unread.advance(bytes);
                    return Ok(info);
                }
                Some(_) => return Err(ConnectError::with_source(ConnectErrorKind::Io, "expected INFO")),
                None => self.read().await?,
            }
        }
    }

    /// Waits for the answer to the PING behind CONNECT.
    async fn accepted(&mut self, connector: &mut Connector) -> Result<(), ConnectError> {
        loop {
            let bytes = match parse(&self.unread).map_err(broken)? {
                Some((ServerOp::Pong, bytes)) => {
                    self.unread.advance(bytes);
                    return Ok(());
                }
                Some((ServerOp::Error(text), _)) => {
                    let error = objection(text);
                    let kind = match error {
                        async_nats::ServerError::AuthorizationViolation => ConnectErrorKind::AuthorizationViolation,
                        _ => ConnectErrorKind::Io,
                    };
                    return Err(ConnectError::with_source(kind, error));
                }
                Some((ServerOp::Info(json), bytes)) => {
                    connector.learn(json);
                    bytes
                }
                // Its answer can wait, as the handshake may take no longer than a moment.
                Some((_, bytes)) => bytes,
                None => {
                    self.read().await?;
                    continue;
                }
            };
            self.unread.advance(bytes);
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        let received = self.socket.read_buf(&mut self.unread).await?;
        if received == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}
