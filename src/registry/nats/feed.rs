//! The content of the bucket, and then its changes.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::{ConsumerErrorKind, Stream};
use futures_util::StreamExt;

use super::{BucketError, Key};
use crate::protocol::id::{DeviceId, ProductId};
use crate::registry::json::{self, UnknownMembers};
use crate::registry::{Device, Product, RecordError};

/// Records asked for at once: what may wait here at most, some 500 bytes each.
const BATCH: usize = 500;

/// A request for records ends after this time and is repeated.
const EXPIRES: Duration = Duration::from_secs(30);

/// How often the server says that there is nothing. Two missing beats mean that the bucket is lost.
const HEARTBEAT: Duration = Duration::from_millis(1_500);

/// After this time the server forgets a reader that has gone.
const FORGET: Duration = Duration::from_secs(30);

/// One record of the bucket, as last written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// A device's; `None`: it was deleted.
    Device(DeviceId, Option<Result<Device, Vec<RecordError>>>),
    /// A product's; `None`: it was deleted.
    Product(ProductId, Option<Result<Product, Vec<RecordError>>>),
    /// Under a key that the bridge would not write.
    Foreign(String),
}

/// Reads a bucket through a consumer that the server forgets by itself.
pub(super) struct Feed {
    messages: pull::Stream,
    prefix: String,
    /// Records that were in the bucket at the opening and are still to come.
    left: u64,
    /// Number of the last message.
    sequence: u64,
}

impl Feed {
    /// Opens the bucket of that stream.
    pub(super) async fn open(bucket: &str, stream: &Stream) -> Result<Self, BucketError> {
        let prefix = format!("$KV.{bucket}.");
        let config = pull::Config {
            filter_subject: format!("{prefix}>"),
            deliver_policy: DeliverPolicy::LastPerSubject,
            ack_policy: AckPolicy::None,
            inactive_threshold: FORGET,
            num_replicas: 1,
            memory_storage: true,
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(|error| match error.kind() {
            ConsumerErrorKind::JetStream(reply) => BucketError::Refused(reply.to_string()),
            _ => BucketError::Unreachable(error.to_string()),
        })?;
        let left = consumer.cached_info().num_pending;
        let messages =
            consumer.stream().max_messages_per_batch(BATCH).expires(EXPIRES).heartbeat(HEARTBEAT).messages().await;
        let messages = messages.map_err(|error| BucketError::Unreachable(error.to_string()))?;
        Ok(Self { messages, prefix, left, sequence: 0 })
    }

    /// Whether everything was read that was in the bucket at the opening.
    pub(super) fn is_current(&self) -> bool {
        self.left == 0
    }

    /// The next record or change. What was read before stays valid when the call is given up.
    pub(super) async fn next(&mut self) -> Result<Entry, BucketError> {
        let message = match self.messages.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(BucketError::Silent(error.to_string())),
            None => return Err(BucketError::Lost),
        };
        let (sequence, pending) = match message.info() {
            Ok(info) => (info.consumer_sequence, info.pending),
            Err(error) => return Err(BucketError::Silent(error.to_string())),
        };
        if sequence != self.sequence + 1 {
            return Err(BucketError::Gap);
        }
        self.sequence = sequence;
        self.left = self.left.saturating_sub(1).min(pending);
        Ok(read(&self.prefix, &message))
    }
}

fn read(prefix: &str, message: &jetstream::Message) -> Entry {
    let text = message.subject.as_str();
    let text = text.strip_prefix(prefix).unwrap_or(text);
    let Some(key) = Key::parse(text) else { return Entry::Foreign(text.to_owned()) };
    let is_deleted = message.headers.as_ref().is_some_and(|headers| {
        let operation = headers.get("KV-Operation").map(|value| value.as_str());
        // The second is what the server writes where a record has come of age.
        operation.is_some_and(|operation| operation != "PUT") || headers.get("Nats-Marker-Reason").is_some()
    });
    match key {
        Key::Device(id) if is_deleted => Entry::Device(id, None),
        Key::Product(id) if is_deleted => Entry::Product(id, None),
        Key::Device(id) => {
            let record = json::read_device(&message.payload, UnknownMembers::Tolerated);
            let record =
                record.and_then(|device| if device.id == id { Ok(device) } else { Err(vec![RecordError::OtherId]) });
            Entry::Device(id, Some(record))
        }
        Key::Product(id) => {
            let record = json::read_product(&message.payload, UnknownMembers::Tolerated);
            let record =
                record.and_then(|product| if product.id == id { Ok(product) } else { Err(vec![RecordError::OtherId]) });
            Entry::Product(id, Some(record))
        }
    }
}
