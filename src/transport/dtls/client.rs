//! The other side, for tools that speak as a device.

use std::fmt;

use openssl::error::ErrorStack;
use openssl::ssl::{SslContext, SslMethod, SslMode, SslOptions, SslVerifyMode, SslVersion};

/// The context that all sessions of a tool share. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    context: SslContext,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// A client that takes any certificate: it is for trying a server, not for trusting one.
    ///
    /// # Errors
    /// OpenSSL has no DTLS 1.2.
    pub fn new() -> Result<Self, ErrorStack> {
        let mut context = SslContext::builder(SslMethod::dtls_client())?;
        context.set_min_proto_version(Some(SslVersion::DTLS1_2))?;
        context.set_verify(SslVerifyMode::NONE);
        context.set_options(SslOptions::NO_QUERY_MTU | SslOptions::NO_TICKET);
        context.set_mode(SslMode::RELEASE_BUFFERS);
        context.set_read_ahead(true);
        Ok(Self { context: context.build() })
    }

    pub(super) fn context(&self) -> &SslContext {
        &self.context
    }
}
