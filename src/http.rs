//! HTTP client of the registry, of the export of spans and of the tools that ask a bridge.

use std::error::Error;
use std::time::Duration;

use hyper::Uri;
use hyper::body::Body;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Value of `User-Agent`.
pub(crate) const USER_AGENT: &str = concat!("jetlinks-bridge/", env!("CARGO_PKG_VERSION"));

/// Sends requests with a body `B` over connections that are kept open for further requests. Cheap to clone.
pub(crate) type Client<B> = legacy::Client<HttpsConnector<HttpConnector>, B>;

/// Bounds of the connections of a [`Client`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    /// Time for a connection to be established.
    pub(crate) connect_timeout: Duration,
    /// A connection without a request is closed after this time.
    pub(crate) idle_timeout: Duration,
    /// Connections without a request that are kept, at most.
    pub(crate) idle_max: usize,
}

/// A client for that server; connects to nothing yet. Over `https` it trusts the certificates of the system.
///
/// # Errors
/// The system has no certificates to trust, and the URL is `https`; the text says why.
pub(crate) fn client<B>(server: &Uri, limits: ConnectionLimits) -> Result<Client<B>, String>
where
    B: Body + Send,
    B::Data: Send,
{
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(limits.connect_timeout));
    http.set_nodelay(true);
    let builder = HttpsConnectorBuilder::new();
    let builder = if server.scheme_str() == Some("https") {
        builder.with_native_roots().map_err(|error| error.to_string())?
    } else {
        // Nothing is sent over TLS then, and a system without certificates is no obstacle.
        let config = ClientConfig::builder().with_root_certificates(RootCertStore::empty());
        builder.with_tls_config(config.with_no_client_auth())
    };
    let connector = builder.https_or_http().enable_http1().wrap_connector(http);
    let mut builder = legacy::Client::builder(TokioExecutor::new());
    builder.pool_idle_timeout(limits.idle_timeout).pool_max_idle_per_host(limits.idle_max);
    Ok(builder.pool_timer(TokioTimer::new()).build(connector))
}

/// An error with its causes: the client's own words alone say nothing but "client error".
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
