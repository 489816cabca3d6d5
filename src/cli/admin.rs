//! The admin listener of a replica, as `shed` and `trace` ask it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request, Response, Uri};
use serde_json::Value;

use super::input::admin_address;
use crate::config::{Config, Secret};
use crate::http::{self, ConnectionLimits};

/// How long the bridge may take for an answer, or for its beginning: it waits for other replicas, too.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest answer that is read as a whole, in bytes.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Asks the admin listener of one replica.
pub(super) struct AdminClient<'a> {
    /// Where it listens.
    pub(super) address: String,
    token: Option<&'a Secret>,
}

impl<'a> AdminClient<'a> {
    /// A client of the replica at that address, else of the one of the configuration, which has the token.
    pub(super) fn new(address: Option<&String>, config: &'a Config) -> Self {
        let address = address.cloned().unwrap_or_else(|| admin_address(config));
        Self { address, token: config.admin.token.as_ref() }
    }

    /// Sends a request, with JSON or with no body. The caller bounds the time, by [`ANSWER_TIMEOUT`].
    ///
    /// # Errors
    /// The bridge cannot be asked, or refuses; the text says why.
    pub(super) async fn ask(&self, method: Method, path: &str, body: String) -> anyhow::Result<Response<Incoming>> {
        let url: Uri = format!("http://{}{path}", self.address).parse()?;
        let limits = ConnectionLimits { connect_timeout: ANSWER_TIMEOUT, idle_timeout: ANSWER_TIMEOUT, idle_max: 0 };
        let client = http::client(&url, limits).map_err(anyhow::Error::msg)?;
        let mut request = Request::builder().method(method).uri(url);
        if let Some(token) = self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        let request = request.header(CONTENT_TYPE, "application/json").body(Full::new(Bytes::from(body)))?;
        let response = client.request(request).await.map_err(|error| anyhow::anyhow!(http::with_causes(&error)))?;
        let status = response.status();
        if !status.is_success() {
            bail!("{status}: {}", json(response).await?["error"].as_str().unwrap_or_default());
        }
        Ok(response)
    }
}

/// The whole body of a response.
pub(super) async fn json(response: Response<Incoming>) -> anyhow::Result<Value> {
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
    serde_json::from_slice(&body).with_context(|| format!("{status}, and no JSON"))
}
