//! Client of a collector.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Request, Uri};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tokio::time::timeout;

use super::SpanSettings;
use crate::http::{self, Client, ConnectionLimits};

/// Time that a collector may take for a batch.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of an answer that are read, at most.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A connection without a request is closed after this time.
const POOL_IDLE: Duration = Duration::from_secs(60);

/// A setting or a resource without which spans cannot be exported.
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

/// Answer of a collector to a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Export {
    /// The collector has it, except for spans that it refused.
    Taken {
        /// Spans that it refused.
        rejected: u64,
    },
    /// No answer, or one after which the batch may be sent again; the cause.
    Away(String),
    /// An answer after which the batch must not be sent again; the cause.
    Refused(String),
}

/// One connection to one collector.
pub(super) struct Collector {
    client: Client<Full<Bytes>>,
    uri: Uri,
    headers: HeaderMap,
}

impl Collector {
    /// Checks the settings; connects to nothing yet.
    ///
    /// # Errors
    /// [`ExportError::Settings`] and [`ExportError::Certificates`].
    pub(super) fn new(settings: &SpanSettings) -> Result<Self, ExportError> {
        let uri: Uri = settings.url.parse().map_err(|_| ExportError::Settings("the URL is not valid"))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let name: HeaderName =
                name.parse().map_err(|_| ExportError::Settings("the name of a header is not valid"))?;
            let mut value = HeaderValue::from_str(value.expose())
                .map_err(|_| ExportError::Settings("the value of a header is not valid"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(USER_AGENT, HeaderValue::from_static(http::USER_AGENT));
        let limits = ConnectionLimits { connect_timeout: TIMEOUT, idle_timeout: POOL_IDLE, idle_max: 1 };
        let client = http::client(&uri, limits).map_err(ExportError::Certificates)?;
        Ok(Self { client, uri, headers })
    }

    /// Posts a batch once.
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
            Err(error) => return Export::Away(http::with_causes(&error)),
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
