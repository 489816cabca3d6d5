//! One record of the registry.

use crate::protocol::auth;
use crate::protocol::cipher;
use crate::protocol::id::{DeviceId, ProductId};
use crate::protocol::secret::Secret;

/// The record of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// Its product.
    pub product: ProductId,
    /// Its secret; `None`: it cannot connect itself.
    pub credentials: Option<Credentials>,
    /// A disabled device is refused.
    pub enabled: bool,
    /// The gateway that it may speak through, and through no other.
    pub gateway: Option<DeviceId>,
    /// The enabled devices that name this one as their gateway, by id.
    pub children: Box<[Child]>,
}

/// A device's secret, its own or its product's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Public half.
    pub secure_id: Box<str>,
    /// Secret half.
    pub secure_key: Secret,
}

/// The record of a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// Its id.
    pub id: ProductId,
    /// For its devices that have none of their own.
    pub credentials: Option<Credentials>,
}

/// A device behind a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// Its id.
    pub id: DeviceId,
    /// Its product.
    pub product: ProductId,
}

impl Device {
    /// The credentials that [`auth::verify`] compares with. A device without a secret expects some that nothing matches.
    pub fn expected(&self) -> auth::Expected<'_> {
        let credentials = self.credentials.as_ref();
        auth::Expected {
            secure_id: credentials.map_or("", |credentials| &credentials.secure_id),
            secure_key: credentials.map_or("", |credentials| credentials.secure_key.expose()),
            enabled: self.enabled,
        }
    }

    /// Whether the device has a secret that cannot encrypt CoAP: AES-128 takes 16 bytes.
    pub fn cannot_encrypt(&self) -> bool {
        self.credentials.as_ref().is_some_and(|credentials| cipher::key(credentials.secure_key.expose()).is_none())
    }

    /// Whether a session that was opened under this record may go on under `next`.
    pub fn permits_under(&self, next: &Device) -> bool {
        next.enabled
            && self.product == next.product
            && self.credentials == next.credentials
            && self.gateway == next.gateway
    }
}
