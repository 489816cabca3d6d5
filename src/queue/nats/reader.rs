//! The reader of the stream, in stored order.

use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::{self, Message};
use futures_util::StreamExt;

use super::connection::{self, Access};
use super::{NatsError, NatsSettings, headers, stream};
use crate::queue::{Position, ReadError, ReadFrom, Stored};

/// How long the server may take to be reached, and for each answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the stream by an ordered consumer, which the server forgets by itself.
pub struct NatsReader {
    messages: Ordered,
    /// The last sequence number to read; `None` when the reader has no end.
    end: Option<u64>,
    is_ended: bool,
    /// Sequence number of the first message that may come.
    start: u64,
    /// Whether nothing is stored before it.
    is_whole: bool,
}

impl From<NatsError> for ReadError {
    fn from(error: NatsError) -> Self {
        ReadError::Settings(error.to_string())
    }
}

impl NatsReader {
    /// Opens the stream for these subjects below the prefix, such as `device.>` or `device.product1.device1.>`; empty
    /// means all.
    ///
    /// # Errors
    /// [`ReadError`] when the settings are wrong, the server does not answer or the stream does not exist.
    pub async fn open(settings: &NatsSettings, subjects: &str, from: ReadFrom) -> Result<Self, ReadError> {
        let Access { servers, options, .. } = Access::new(settings)?;
        let client =
            connection::connect_once(&servers, &options, REQUEST_TIMEOUT).await.map_err(ReadError::Unreachable)?;
        let context = stream::context(&client, settings.domain.as_deref(), REQUEST_TIMEOUT);
        let stream = match context.get_stream(&settings.stream).await {
            Ok(stream) => stream,
            Err(error) => {
                return Err(match error.kind() {
                    GetStreamErrorKind::JetStream(reply)
                        if reply.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND =>
                    {
                        ReadError::Missing(format!("stream {}", settings.stream))
                    }
                    _ => ReadError::Unreachable(error.to_string()),
                });
            }
        };
        let state = &stream.cached_info().state;
        let (first, last) = (state.first_sequence, state.last_sequence);
        let start = match from {
            ReadFrom::Beginning | ReadFrom::Time(_) => first,
            ReadFrom::Last(count) => (last + 1).saturating_sub(count).max(first),
            ReadFrom::Now => last + 1,
        };
        let (deliver_policy, end) = match from {
            ReadFrom::Beginning => (DeliverPolicy::All, Some(last)),
            ReadFrom::Time(time) => (DeliverPolicy::ByStartTime { start_time: time.into() }, Some(last)),
            ReadFrom::Last(_) => (DeliverPolicy::ByStartSequence { start_sequence: start.max(1) }, Some(last)),
            ReadFrom::Now => (DeliverPolicy::ByStartSequence { start_sequence: start }, None),
        };
        let filter_subject =
            if subjects.is_empty() { String::new() } else { format!("{}.{subjects}", settings.prefix) };
        let consumer = stream
            .create_consumer(OrderedConfig { deliver_policy, filter_subject, ..OrderedConfig::default() })
            .await
            .map_err(|error| ReadError::Unreachable(error.to_string()))?;
        let is_ended = end.is_some() && consumer.cached_info().num_pending == 0;
        let messages = consumer.messages().await.map_err(|error| ReadError::Unreachable(error.to_string()))?;
        Ok(Self { messages, end, is_ended, start, is_whole: start <= first })
    }

    /// Whether nothing is stored before the first envelope that it reads.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Whether a reader that has just been opened will come to that place.
    pub fn is_ahead_of(&self, place: Position) -> bool {
        matches!(place, Position::Sequence(sequence) if sequence >= self.start)
    }

    /// The next envelope; `None` at the end.
    ///
    /// # Errors
    /// [`ReadError::Lost`] when the client gives up.
    pub async fn next(&mut self) -> Result<Option<Stored>, ReadError> {
        if self.is_ended {
            return Ok(None);
        }
        let Some(next) = self.messages.next().await else { return Ok(None) };
        let message = next.map_err(|error| ReadError::Lost(error.to_string()))?;
        let (sequence, pending, stored_ms) = match message.info() {
            Ok(info) => (info.stream_sequence, info.pending, info.published.unix_timestamp_nanos() / 1_000_000),
            Err(error) => return Err(ReadError::Lost(error.to_string())),
        };
        if let Some(end) = self.end {
            self.is_ended = sequence >= end || pending == 0;
            if sequence > end {
                return Ok(None);
            }
        }
        Ok(Some(stored(&message, sequence, i64::try_from(stored_ms).unwrap_or_default())))
    }
}

fn stored(message: &Message, sequence: u64, stored_ms: i64) -> Stored {
    let headers = message.headers.as_ref();
    Stored {
        place: Position::Sequence(sequence),
        address: message.subject.as_str().to_owned(),
        payload: message.payload.clone(),
        content_type: headers::text(headers, "content-type"),
        attributes: headers::attributes(headers),
        stored_ms,
    }
}
