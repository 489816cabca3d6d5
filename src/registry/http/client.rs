//! Client of the service.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderValue, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use tokio::time::timeout;

use super::{HttpError, HttpRegistrySettings, POOL_IDLE};
use crate::http::{self, Client, ConnectionLimits};
use crate::protocol::address;
use crate::protocol::id::DeviceId;
use crate::registry::json::{self, UnknownMembers};
use crate::registry::{Device, RecordError};

/// An answer that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The device's record.
    Found(Device),
    /// The service does not know the device.
    Unknown,
}

/// Asks for records over connections that are kept open for the next question. Cheap to clone.
#[derive(Clone)]
pub struct HttpClient {
    client: Client<Empty<Bytes>>,
    base: String,
    authorization: Option<HeaderValue>,
    timeout: std::time::Duration,
    record_bytes_max: usize,
}

impl HttpClient {
    /// Checks the settings; connects to nothing yet.
    ///
    /// # Errors
    /// [`HttpError::Settings`] and [`HttpError::Certificates`].
    pub fn new(settings: &HttpRegistrySettings) -> Result<Self, HttpError> {
        let base = settings.url.trim_end_matches('/').to_owned();
        let uri: Uri = base.parse().map_err(|_| HttpError::Settings("the URL is not valid"))?;
        let authorization = settings.token.as_ref().map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))?;
            value.set_sensitive(true);
            Ok::<_, hyper::header::InvalidHeaderValue>(value)
        });
        let authorization =
            authorization.transpose().map_err(|_| HttpError::Settings("the token is not valid in a header"))?;
        let limits = ConnectionLimits {
            connect_timeout: settings.timeout,
            idle_timeout: POOL_IDLE,
            idle_max: settings.requests_max,
        };
        let client = http::client(&uri, limits).map_err(HttpError::Certificates)?;
        let (timeout, record_bytes_max) = (settings.timeout, settings.record_bytes_max);
        Ok(Self { client, base, authorization, timeout, record_bytes_max })
    }

    /// Asks for a device.
    ///
    /// # Errors
    /// [`HttpError`] for everything but a record of that device and 404.
    pub async fn ask(&self, id: &DeviceId) -> Result<Answer, HttpError> {
        timeout(self.timeout, self.exchange(id)).await.unwrap_or(Err(HttpError::TimedOut))
    }

    async fn exchange(&self, id: &DeviceId) -> Result<Answer, HttpError> {
        let mut request = Request::get(format!("{}/{}", self.base, segment(id.as_str())))
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, http::USER_AGENT);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::new()).map_err(|_| HttpError::Settings("the URL is not valid"))?;
        let response = self.client.request(request).await;
        let response = response.map_err(|error| HttpError::Unreachable(http::with_causes(&error)))?;
        let status = response.status();
        if !matches!(status, StatusCode::OK | StatusCode::NOT_FOUND) {
            return Err(HttpError::Status(status.as_u16()));
        }
        // The answer to an unknown device is read too: only then can its connection serve the next question.
        let body = self.body(response).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(Answer::Unknown);
        }
        match json::read_device(&body, UnknownMembers::Tolerated) {
            Ok(device) if device.id == *id => Ok(Answer::Found(device)),
            Ok(_) => Err(HttpError::Record(vec![RecordError::OtherId])),
            Err(mistakes) => Err(HttpError::Record(mistakes)),
        }
    }

    async fn body(&self, response: Response<Incoming>) -> Result<Bytes, HttpError> {
        let body = Limited::new(response.into_body(), self.record_bytes_max).collect().await;
        body.map(|body| body.to_bytes()).map_err(|error| {
            if error.is::<LengthLimitError>() {
                HttpError::Record(vec![RecordError::TooLarge])
            } else {
                HttpError::Unreachable(error.to_string())
            }
        })
    }
}

/// An id as one segment of a path. One of dots alone, which some servers would take for a step up, is encoded altogether.
fn segment(id: &str) -> String {
    if id.bytes().all(|byte| byte == b'.') { "%2E".repeat(id.len()) } else { address::segment(id) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_segment_of_the_path() {
        for (id, expected) in [
            ("device1", "device1"),
            ("a.b_c-d~e", "a.b_c-d~e"),
            ("a b?c=d&e%", "a%20b%3Fc%3Dd%26e%25"),
            ("度", "%E5%BA%A6"),
            ("..", "%2E%2E"),
        ] {
            assert_eq!(segment(id), expected);
        }
    }
}
