//! Why NATS cannot be used with its settings.

use std::io::ErrorKind;
use std::path::PathBuf;

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
    /// What is given as this TLS setting is not what it should be in PEM.
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
