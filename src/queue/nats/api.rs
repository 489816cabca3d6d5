//! Requests to the API of JetStream.
//!
//! Each request has an inbox of its own. The client's own requests share one subscription per connection, which it makes
//! once: where the server has taken that away, with a right, every later request of the connection would stay unanswered.

use std::time::Duration;

use async_nats::{Client, Request, RequestErrorKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A request that is not answered by then counts as unanswered.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The API as one connection reaches it.
#[derive(Debug)]
pub(super) struct Api<'a> {
    client: &'a Client,
    prefix: String,
}

/// Why there is no answer that can be read.
#[derive(Debug)]
pub(super) enum ApiError {
    /// No server here offers it.
    NoResponders,
    /// Anything else; the text says what.
    Failed(String),
}

impl<'a> Api<'a> {
    /// The API of that domain; `None` is that of the server itself.
    pub(super) fn new(client: &'a Client, domain: Option<&str>) -> Self {
        let prefix = domain.map_or_else(|| "$JS.API".to_owned(), |domain| format!("$JS.{domain}.API"));
        Self { client, prefix }
    }

    /// Subject of that request, such as `$JS.API.STREAM.NAMES`.
    pub(super) fn subject(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// Asks, and reads the answer.
    ///
    /// # Errors
    /// [`ApiError`] where no answer came in time, or one that is not of this type.
    pub(super) async fn ask<T: DeserializeOwned>(&self, name: &str, question: &impl Serialize) -> Result<T, ApiError> {
        let payload = serde_json::to_vec(question).map_err(|error| ApiError::Failed(error.to_string()))?;
        let inbox = self.client.new_inbox();
        let request = Request::new().payload(payload.into()).inbox(inbox).timeout(Some(TIMEOUT));
        let message = self.client.send_request(self.subject(name), request).await.map_err(|error| {
            if error.kind() == RequestErrorKind::NoResponders {
                ApiError::NoResponders
            } else {
                ApiError::Failed(error.to_string())
            }
        })?;
        serde_json::from_slice(&message.payload).map_err(|error| ApiError::Failed(error.to_string()))
    }
}
