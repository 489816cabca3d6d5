//! Calls devices by NATS request.

use std::time::Duration;

use async_nats::{Client, Message, RequestErrorKind};
use bytes::Bytes;

use super::connection::{self, Access};
use super::{NatsSettings, headers};
use crate::queue::{Answer, CallError};

/// How long the server may take to be reached.
const CONNECT: Duration = Duration::from_secs(10);

/// A connection that sends commands and waits for their outcomes.
#[derive(Debug)]
pub struct NatsCaller {
    client: Client,
    prefix: String,
}

impl NatsCaller {
    /// Connects; a server that is away is an error at once.
    ///
    /// # Errors
    /// [`CallError::Settings`] and [`CallError::Unreachable`].
    pub async fn connect(settings: &NatsSettings) -> Result<Self, CallError> {
        let access = Access::new(settings).map_err(|error| CallError::Settings(error.to_string()))?;
        let connecting = connection::connect_once(&access.servers, &access.options, CONNECT);
        let client = connecting.await.map_err(CallError::Unreachable)?;
        Ok(Self { client, prefix: settings.prefix.clone() })
    }

    /// Sends a command with these headers to the subject below `command` of the prefix, such as
    /// `product1.device1.properties.read`, and waits for its outcome.
    ///
    /// # Errors
    /// [`CallError`] when there is none; [`CallError::NoResponders`] comes at once.
    pub async fn call(
        &self,
        subject: &str,
        headers: &[(&'static str, String)],
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Answer, CallError> {
        let mut request = async_nats::Request::new().payload(payload).timeout(Some(timeout));
        if !headers.is_empty() {
            request = request.headers(headers::of_command(headers));
        }
        match self.client.send_request(format!("{}.command.{subject}", self.prefix), request).await {
            Ok(message) => Ok(answer(message)),
            Err(error) => Err(match error.kind() {
                RequestErrorKind::NoResponders => CallError::NoResponders,
                RequestErrorKind::TimedOut => CallError::TimedOut,
                RequestErrorKind::InvalidSubject => CallError::Settings(error.to_string()),
                _ => CallError::Lost(error.to_string()),
            }),
        }
    }
}

fn answer(message: Message) -> Answer {
    let headers = message.headers.as_ref();
    Answer { attributes: headers::attributes(headers), failure: headers::failure(headers), payload: message.payload }
}
