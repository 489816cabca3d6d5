//! Parameters of the NATS queue, and why it cannot be used with them.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, fs};

use super::connection::ConnectionTallies;
use crate::protocol::secret::Secret;

/// A look that fails, with a connection that is lost or a request that stays unanswered, is made good by the next one:
/// twice this is within a minute.
const FOREIGN_STREAMS_EVERY: Duration = Duration::from_secs(25);

/// Parameters of every NATS connection and of the stream. They have no `Debug`, which would show passwords in URLs.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsSettings {
    /// Server URLs, `nats://host:port` or `tls://host:port`; at least one. The first user and password (or token) inside
    /// one counts for all.
    pub servers: Vec<String>,
    /// User JWT and seed, as a credentials file holds them, or the seed alone; a file is read again at each connection.
    pub credentials: Option<NatsMaterial>,
    /// Certificates; any of them, or a `tls://` URL, turns TLS on.
    pub tls: NatsTlsSettings,
    /// First token or tokens of every subject, without a trailing dot; `jetlinks` by default.
    pub prefix: String,
    /// First token or tokens of the subjects on which answers and acknowledgements come; `_INBOX` by default. Whoever may
    /// subscribe them hears all that the connections are answered.
    pub inbox_prefix: String,
    /// JetStream domain of the stream; `None`, the default, is that of the servers themselves.
    pub domain: Option<String>,
    /// Name of the stream; `JETLINKS_DEVICE` by default.
    pub stream: String,
    /// How the stream is made when it is missing.
    pub stream_defaults: StreamDefaults,
    /// Silence after which the server is asked for a sign of life; the third silent interval ends the connection.
    /// 5 s by default.
    pub ping_interval: Duration,
    /// How long a session waits for an acknowledgement before it gives up; 10 s by default.
    pub ack_timeout: Duration,
    /// How often streams of others over the bridge's subjects are looked for; 25 s by default, as they are to be found
    /// within a minute.
    pub foreign_streams_every: Duration,
    /// Secret that signs claims of replicas, and the one before it, which is still accepted. Without, they are not
    /// signed.
    pub claim_secrets: Vec<Secret>,
    /// Name of the connections, as the server's monitoring shows it; the replica's id does well.
    pub connection_name: String,
    /// Counts of the connections that are made with these settings.
    pub tallies: ConnectionTallies,
}

/// Certificates and keys in PEM; files are read again at each connection, texts need `ca` too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NatsTlsSettings {
    /// Certificate authorities instead of those of the system.
    pub ca: Option<NatsMaterial>,
    /// Certificate of this client; needs `private_key`.
    pub certificate: Option<NatsMaterial>,
    /// Private key of this client.
    pub private_key: Option<NatsMaterial>,
}

/// PEM text or credentials, or the file that holds them. `Debug` shows no text.
#[derive(Clone, PartialEq, Eq)]
pub enum NatsMaterial {
    /// Read from here.
    File(PathBuf),
    /// The text itself.
    Text(String),
}

impl NatsMaterial {
    /// The text.
    pub(in crate::queue::nats) fn read(&self) -> Result<String, NatsError> {
        match self {
            NatsMaterial::File(path) => {
                fs::read_to_string(path).map_err(|error| NatsError::Unreadable(path.clone(), error.kind()))
            }
            NatsMaterial::Text(text) => Ok(text.clone()),
        }
    }
}

impl fmt::Debug for NatsMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NatsMaterial::File(path) => path.fmt(f),
            NatsMaterial::Text(_) => f.write_str("<redacted>"),
        }
    }
}

/// How a missing stream is made. A stream that exists is never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamDefaults {
    /// Copies in the cluster, 1 to 5.
    pub replicas: usize,
    /// Age at which messages leave the stream; zero means never.
    pub max_age: Duration,
    /// Bytes at which the oldest messages leave the stream; `None` means no limit.
    pub max_bytes: Option<u64>,
}

impl NatsSettings {
    /// Settings for these servers, with every default of the contract.
    pub fn new(servers: Vec<String>) -> Self {
        Self {
            servers,
            credentials: None,
            tls: NatsTlsSettings::default(),
            prefix: "jetlinks".to_owned(),
            inbox_prefix: "_INBOX".to_owned(),
            domain: None,
            stream: "JETLINKS_DEVICE".to_owned(),
            stream_defaults: StreamDefaults {
                replicas: 1,
                max_age: Duration::from_secs(7 * 24 * 60 * 60),
                max_bytes: None,
            },
            ping_interval: Duration::from_secs(5),
            ack_timeout: Duration::from_secs(10),
            foreign_streams_every: FOREIGN_STREAMS_EVERY,
            claim_secrets: Vec::new(),
            connection_name: "jetlinks-bridge".to_owned(),
            tallies: ConnectionTallies::default(),
        }
    }
}

/// A mistake in the settings. A server that is away is no error: the connection never gives up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NatsError {
    /// No server is named.
    #[error("no NATS server is named")]
    NoServer,
    /// This server URL cannot be read.
    #[error("{0:?} is no NATS server URL")]
    Server(String),
    /// This file of the settings cannot be read.
    #[error("{0} cannot be read: {1}")]
    Unreadable(PathBuf, ErrorKind),
    /// The credentials hold neither a JWT and a seed nor a seed alone.
    #[error("the NATS credentials hold neither a user's JWT and seed nor a seed alone")]
    Credentials,
    /// The value of this TLS setting is not what it should be in PEM.
    #[error("NATS TLS setting {0} is not what it should be in PEM")]
    Pem(&'static str),
    /// A TLS setting is given as text, which wants the certificate authority too.
    #[error("a NATS certificate given as text wants the certificate authority too")]
    TextWithoutAuthority,
    /// One of `certificate` and `private_key` is given without the other.
    #[error("a NATS client certificate and its private key go together")]
    HalfCertificate,
    /// A subject cannot begin with this prefix.
    #[error("{0:?} is no prefix of NATS subjects")]
    Prefix(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_does_not_show_itself() {
        assert_eq!(format!("{:?}", NatsMaterial::Text("seed".to_owned())), "<redacted>");
    }
}
