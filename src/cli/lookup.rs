//! One device out of the registry of the configuration, for tools.

use std::sync::Arc;

use crate::app::settings;
use crate::config::{Config, RegistrySource};
use crate::protocol::id::DeviceId;
use crate::queue::nats::ConnectionTallies;
use crate::registry::http::{Answer, HttpClient, HttpError};
use crate::registry::nats::{Bucket, BucketError, IfMissing, Key, StoredDevice};
use crate::registry::{Device, FileRegistry, Lookup, RecordError, listed};

/// Name of the connections of tools, as servers show it.
pub const CONNECTION_NAME: &str = "jetlinks-bridge-tool";

/// Why a device is not found.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The registry cannot be read; which one, and its words.
    #[error("{0}")]
    Registry(String),
    /// It does not know the device; which one.
    #[error("not in {0}")]
    Unknown(String),
    /// Its record has mistakes.
    #[error("its record cannot be read:{}", listed(.0))]
    Unreadable(Vec<RecordError>),
}

impl From<BucketError> for LookupError {
    fn from(error: BucketError) -> Self {
        LookupError::Registry(format!("registry.nats: {error}"))
    }
}

/// Whether a record of the bucket has mistakes.
pub fn is_unreadable(device: &StoredDevice) -> bool {
    matches!(device, StoredDevice::Unreadable(..))
}

/// Looks a device up as the bridge would.
///
/// # Errors
/// [`LookupError`] when there is no such device, or the registry cannot be read.
pub fn find(config: &Config, id: &str) -> Result<Arc<Device>, LookupError> {
    match config.registry.source {
        RegistrySource::File => find_in_file(config, id),
        RegistrySource::Nats => block_on(find_in_nats(config, id)),
        RegistrySource::Http => block_on(find_over_http(config, id)),
    }
}

fn block_on<T>(work: impl Future<Output = Result<T, LookupError>>) -> Result<T, LookupError> {
    super::block_on(work).map_err(|error| LookupError::Registry(error.to_string()))?
}

fn find_in_file(config: &Config, id: &str) -> Result<Arc<Device>, LookupError> {
    let path = config.registry.file.as_deref().unwrap_or_else(|| "".as_ref());
    let registry = FileRegistry::open(path, config.registry.product_secrets)
        .map_err(|error| LookupError::Registry(format!("registry.file.path: {}: {error}", path.display())))?;
    match registry.device(id) {
        Lookup::Found(device) => Ok(device),
        Lookup::Unknown | Lookup::Away | Lookup::Late => Err(LookupError::Unknown(path.display().to_string())),
    }
}

async fn find_in_nats(config: &Config, id: &str) -> Result<Arc<Device>, LookupError> {
    let settings = settings::nats_registry(config, CONNECTION_NAME, &ConnectionTallies::default())
        .map_err(|error| LookupError::Registry(format!("nats: {error}")))?;
    let unknown = || LookupError::Unknown(format!("bucket {}", settings.bucket));
    let key = Key::Device(DeviceId::new(id).map_err(|_| unknown())?);
    let bucket = Bucket::open(&settings, IfMissing::Fail).await?;
    let mut device = match bucket.device(&key).await?.ok_or_else(unknown)? {
        StoredDevice::Device(device) => device,
        StoredDevice::Unreadable(_, mistakes) => return Err(LookupError::Unreadable(mistakes)),
    };
    if device.credentials.is_none() && settings.product_secrets {
        let product = bucket.product(&Key::Product(device.product.clone())).await?;
        device.credentials = product.and_then(|product| product.credentials);
    }
    Ok(Arc::new(device))
}

async fn find_over_http(config: &Config, id: &str) -> Result<Arc<Device>, LookupError> {
    let unusable = |error: HttpError| LookupError::Registry(format!("registry.http: {error}"));
    let settings = settings::http_registry(config)
        .ok_or_else(|| LookupError::Registry("registry.http.url is not set".to_owned()))?;
    let unknown = || LookupError::Unknown("the registry behind HTTP".to_owned());
    let id = DeviceId::new(id).map_err(|_| unknown())?;
    match HttpClient::new(&settings).map_err(unusable)?.ask(&id).await {
        Ok(Answer::Found(device)) => Ok(Arc::new(device)),
        Ok(Answer::Unknown) => Err(unknown()),
        Err(HttpError::Record(mistakes)) => Err(LookupError::Unreadable(mistakes)),
        Err(error) => Err(unusable(error)),
    }
}
