//! A device as the registry knows it.

use super::mqtt::BoundChild;
use crate::protocol::id::ProductId;

/// A device's record in the registry: its credentials, its product and its children.
#[derive(Clone)]
pub struct Identity {
    /// Its product.
    pub product: ProductId,
    /// Public half of its secret; empty for a device that cannot connect itself.
    pub secure_id: Box<str>,
    /// Secret half.
    pub secure_key: Box<str>,
    /// Whether it may connect.
    pub enabled: bool,
    /// The children bound to it.
    pub children: Box<[BoundChild]>,
}

/// The registry's answer.
pub enum Lookup {
    /// It knows the device.
    Found(Identity),
    /// It does not.
    Unknown,
    /// It did not answer; nobody is let in.
    Away,
}
