//! Posts batches to a collector.

use std::error::Error as _;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tokio::time::timeout;

use super::SpanSettings;

/// How the bridge calls itself.
const AGENT: &str = concat!("jetlinks-bridge/", env!("CARGO_PKG_VERSION"));

/// How long a collector may take for a batch.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How much of an answer is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How long a connection is kept open for the next batch.
const POOL_IDLE: Duration = Duration::from_secs(60);

/// Why spans cannot be exported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// A setting cannot be used; the text says which.
    #[error("spans cannot be exported: {0}")]
    Settings(&'static str),
    /// The system has no certificates to trust.
    #[error("the certificates of the system cannot be used: {0}")]
    Certificates(String),
    /// The system gives no thread.
    #[error("no thread for the export of spans: {0}")]
    Thread(std::io::ErrorKind),
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Export {
    /// The collector has it, but for so many spans.
    Taken {
        /// Spans that it refused.
        rejected: u64,
    },
    /// Not this time.
    Away(String),
    /// It never takes this batch.
    Refused(String),
}

/// One connection to one collector.
pub(super) struct Collector {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
    headers: HeaderMap,
}

impl Collector {
    /// Checks the settings; connects to nothing yet.
    ///
    /// # Errors
    /// [`ExportError::Settings`] and [`ExportError::Certificates`].
    pub(super) fn new(settings: &SpanSettings) -> Result<Self, ExportError> {
        let uri: Uri = settings.url.parse().map_err(|_| ExportError::Settings("the URL is none"))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let name: HeaderName = name.parse().map_err(|_| ExportError::Settings("a header's name is none"))?;
            let mut value = HeaderValue::from_str(value.expose())
                .map_err(|_| ExportError::Settings("a header's value does not fit into one"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector(uri.scheme_str() == Some("https"))?);
        Ok(Self { client, uri, headers })
    }

    /// Offers a batch once.
    pub(super) async fn post(&self, body: Bytes) -> Export {
        match timeout(TIMEOUT, self.exchange(body)).await {
            Ok(export) => export,
            Err(_) => Export::Away(format!("no answer within {} s", TIMEOUT.as_secs())),
        }
    }

    async fn exchange(&self, body: Bytes) -> Export {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let response = match self.client.request(request).await {
            Ok(response) => response,
            Err(error) => return Export::Away(unreachable(&error)),
        };
        let status = response.status();
        let answer = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        match status.as_u16() {
            200..=299 => {
                let answer = answer.ok().and_then(|body| ExportTraceServiceResponse::decode(body.to_bytes()).ok());
                let partial = answer.and_then(|answer| answer.partial_success);
                let rejected = partial.map_or(0, |partial| partial.rejected_spans);
                Export::Taken { rejected: u64::try_from(rejected).unwrap_or(0) }
            }
            // Those that the OTLP specification calls retryable.
            429 | 502 | 503 | 504 => Export::Away(format!("status {status}")),
            _ => Export::Refused(format!("status {status}")),
        }
    }
}

fn connector(with_tls: bool) -> Result<HttpsConnector<HttpConnector>, ExportError> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(TIMEOUT));
    http.set_nodelay(true);
    let builder = HttpsConnectorBuilder::new();
    let builder = if with_tls {
        builder.with_native_roots().map_err(|error| ExportError::Certificates(error.to_string()))?
    } else {
        // Nothing is sent over TLS then, and a system without certificates is no obstacle.
        let tls = async_nats::rustls::ClientConfig::builder();
        builder.with_tls_config(
            tls.with_root_certificates(async_nats::rustls::RootCertStore::empty()).with_no_client_auth(),
        )
    };
    Ok(builder.https_or_http().enable_http1().wrap_connector(http))
}

/// The client's error and what it stands on: its own words alone say nothing but "client error".
fn unreachable(error: &hyper_util::client::legacy::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
