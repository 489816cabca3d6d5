//! The bucket as tools use it, and how it is found.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::kv;
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{self, Context, ErrorCode};

use super::feed::{Entry, Feed};
use super::{BucketError, Key, NatsRegistrySettings};
use crate::registry::json::{self, UnknownMembers};
use crate::registry::{Device, Product, RecordError};

/// An answer of the server that takes longer counts as none.
const ANSWER: Duration = Duration::from_secs(5);

/// Versions of a record that a bucket keeps that is made here.
const HISTORY: i64 = 1;

/// Whether a missing bucket is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMissing {
    /// It is made, with one version of each record and the copies of the settings.
    Make,
    /// It is an error.
    Fail,
}

/// The context of a connection for one question after the other.
pub(super) fn context(client: &Client, settings: &NatsRegistrySettings) -> Context {
    let mut context = match &settings.domain {
        Some(domain) => jetstream::with_domain(client.clone(), domain),
        None => jetstream::new(client.clone()),
    };
    context.set_timeout(ANSWER);
    context
}

/// Finds the stream of the bucket.
pub(super) async fn find(
    context: &Context,
    settings: &NatsRegistrySettings,
    if_missing: IfMissing,
) -> Result<Stream, BucketError> {
    let bucket = &settings.bucket;
    let name = format!("KV_{bucket}");
    let stream = match context.get_stream(&name).await {
        Ok(stream) => stream,
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(reply) if reply.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                if if_missing == IfMissing::Fail {
                    return Err(BucketError::Missing(bucket.clone()));
                }
                make(context, settings).await?
            }
            GetStreamErrorKind::JetStream(reply) => return Err(BucketError::Refused(reply.to_string())),
            _ => return Err(BucketError::Unreachable(error.to_string())),
        },
    };
    if stream.cached_info().config.max_messages_per_subject < 1 {
        return Err(BucketError::NoBucket(name));
    }
    Ok(stream)
}

async fn make(context: &Context, settings: &NatsRegistrySettings) -> Result<Stream, BucketError> {
    let config = kv::Config {
        bucket: settings.bucket.clone(),
        description: "Devices of jetlinks-bridge".to_owned(),
        history: HISTORY,
        num_replicas: settings.replicas,
        ..kv::Config::default()
    };
    match context.create_key_value(config).await {
        Ok(store) => {
            tracing::info!(bucket = settings.bucket, "created the bucket of the registry");
            Ok(store.stream)
        }
        // Another replica may have been faster, with other settings; what exists counts.
        Err(error) => context
            .get_stream(format!("KV_{}", settings.bucket))
            .await
            .map_err(|_| BucketError::NotMade(settings.bucket.clone(), error.to_string())),
    }
}

/// A device as the bucket has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredDevice {
    /// A good record.
    Device(Device),
    /// A record with mistakes; CONNECT of that device gets 0x03.
    Unreadable(Key, Vec<RecordError>),
}

/// The bucket, opened for reading and writing single records.
pub struct Bucket {
    name: String,
    store: kv::Store,
}

impl Bucket {
    /// Connects and opens the bucket. A server that is away is an error at once: a tool does not wait for it.
    ///
    /// # Errors
    /// [`BucketError`] when the server does not answer, or there is no such bucket.
    pub async fn open(settings: &NatsRegistrySettings, if_missing: IfMissing) -> Result<Self, BucketError> {
        let connecting = settings.options.clone().connect(settings.servers.clone());
        let cause = match tokio::time::timeout(ANSWER, connecting).await {
            Ok(Ok(client)) => return Self::of(&client, settings, if_missing).await,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no connection in time".to_owned(),
        };
        let servers = settings.servers.iter().map(|server| format!("{}:{}", server.host(), server.port()));
        Err(BucketError::Unreachable(format!("{}: {cause}", servers.collect::<Vec<_>>().join(", "))))
    }

    async fn of(client: &Client, settings: &NatsRegistrySettings, if_missing: IfMissing) -> Result<Self, BucketError> {
        let context = context(client, settings);
        find(&context, settings, if_missing).await?;
        let store = context.get_key_value(&settings.bucket).await;
        let store = store.map_err(|error| BucketError::Unreachable(error.to_string()))?;
        Ok(Self { name: settings.bucket.clone(), store })
    }

    /// Every device, in the order of their ids.
    ///
    /// # Errors
    /// [`BucketError`] when the server is lost meanwhile.
    pub async fn devices(&self) -> Result<Vec<StoredDevice>, BucketError> {
        Ok(self.records().await?.0)
    }

    /// Every device, and every product whose record can be read, each in the order of their ids.
    ///
    /// # Errors
    /// As [`Bucket::devices`].
    pub async fn records(&self) -> Result<(Vec<StoredDevice>, Vec<Product>), BucketError> {
        let mut feed = Feed::open(&self.name, &self.store.stream).await?;
        let (mut devices, mut products) = (BTreeMap::new(), BTreeMap::new());
        while !feed.is_current() {
            match feed.next().await? {
                Entry::Device(id, None) => drop(devices.remove(&id)),
                Entry::Device(id, Some(Ok(device))) => drop(devices.insert(id, StoredDevice::Device(device))),
                Entry::Device(id, Some(Err(mistakes))) => {
                    devices.insert(id.clone(), StoredDevice::Unreadable(Key::Device(id), mistakes));
                }
                Entry::Product(id, Some(Ok(product))) => drop(products.insert(id, product)),
                Entry::Product(id, _) => drop(products.remove(&id)),
                Entry::Foreign(_) => {}
            }
        }
        Ok((devices.into_values().collect(), products.into_values().collect()))
    }

    /// The record of a device; `None` when it has none.
    ///
    /// # Errors
    /// [`BucketError`] when the server does not answer.
    pub async fn device(&self, key: &Key) -> Result<Option<StoredDevice>, BucketError> {
        let Some(text) = self.get(key).await? else { return Ok(None) };
        Ok(Some(match json::read_device(&text, UnknownMembers::Tolerated) {
            Ok(device) => StoredDevice::Device(device),
            Err(mistakes) => StoredDevice::Unreadable(key.clone(), mistakes),
        }))
    }

    /// The record of a product; `None` when it has none, or one with mistakes.
    ///
    /// # Errors
    /// [`BucketError`] when the server does not answer.
    pub async fn product(&self, key: &Key) -> Result<Option<Product>, BucketError> {
        let text = self.get(key).await?;
        Ok(text.and_then(|text| json::read_product(&text, UnknownMembers::Tolerated).ok()))
    }

    async fn get(&self, key: &Key) -> Result<Option<bytes::Bytes>, BucketError> {
        self.store.get(key.text()).await.map_err(|error| BucketError::Unreachable(error.to_string()))
    }

    /// Writes a record of a device in the place of the one that was.
    ///
    /// # Errors
    /// [`BucketError`] when the server does not take it.
    pub async fn put_device(&self, device: &Device) -> Result<(), BucketError> {
        self.put(&Key::Device(device.id.clone()), json::write_device(device)).await
    }

    /// Writes a record of a product in the place of the one that was.
    ///
    /// # Errors
    /// As [`Bucket::put_device`].
    pub async fn put_product(&self, product: &Product) -> Result<(), BucketError> {
        self.put(&Key::Product(product.id.clone()), json::write_product(product)).await
    }

    async fn put(&self, key: &Key, value: Vec<u8>) -> Result<(), BucketError> {
        let put = self.store.put(key.text(), value.into()).await;
        put.map(drop).map_err(|error| BucketError::Refused(error.to_string()))
    }

    /// Deletes a record; whether there was one.
    ///
    /// # Errors
    /// [`BucketError`] when the server does not answer.
    pub async fn delete(&self, key: &Key) -> Result<bool, BucketError> {
        if self.get(key).await?.is_none() {
            return Ok(false);
        }
        self.store.delete(key.text()).await.map_err(|error| BucketError::Refused(error.to_string()))?;
        Ok(true)
    }
}
