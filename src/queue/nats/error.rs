//! Why NATS cannot be used with its settings.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;

/// A mistake in the settings. A server that is away is no error: the connection never gives up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NatsError {
    /// No server is named.
    NoServer,
    /// This server URL cannot be read.
    Server(String),
    /// This file of the settings cannot be read.
    Unreadable(PathBuf, ErrorKind),
    /// The credentials hold neither a JWT and a seed nor a seed alone.
    Credentials,
    /// What is given as this TLS setting is not what it should be in PEM.
    Pem(&'static str),
    /// A TLS setting is given as text, which wants the certificate authority too.
    TextWithoutAuthority,
    /// One of `certificate` and `private_key` is given without the other.
    HalfCertificate,
    /// A subject cannot begin with this prefix.
    Prefix(String),
}

impl fmt::Display for NatsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NatsError::NoServer => f.write_str("no NATS server is named"),
            NatsError::Server(url) => write!(f, "{url:?} is no NATS server URL"),
            NatsError::Unreadable(path, kind) => write!(f, "{} cannot be read: {kind}", path.display()),
            NatsError::Credentials => {
                f.write_str("the NATS credentials hold neither a user's JWT and seed nor a seed alone")
            }
            NatsError::Pem(name) => write!(f, "NATS TLS setting {name} is not what it should be in PEM"),
            NatsError::TextWithoutAuthority => {
                f.write_str("a NATS certificate given as text wants the certificate authority too")
            }
            NatsError::HalfCertificate => f.write_str("a NATS client certificate and its private key go together"),
            NatsError::Prefix(prefix) => write!(f, "{prefix:?} is no prefix of NATS subjects"),
        }
    }
}

impl std::error::Error for NatsError {}
