//! What the registry behind HTTP is told.

use std::time::Duration;

use crate::protocol::secret::Secret;

/// Parameters of the registry behind HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRegistrySettings {
    /// `GET {url}/{id}` answers with a record; `http` or `https`, without user, query and fragment.
    pub url: String,
    /// Bearer token.
    pub token: Option<Secret>,
    /// For one request, and for one device that waits for an answer.
    pub timeout: Duration,
    /// How long a record counts.
    pub cache_ttl: Duration,
    /// How long "unknown" counts.
    pub negative_ttl: Duration,
    /// Records that are kept, at most; some 450 bytes each. More than devices can be connected.
    pub records_max: usize,
    /// Largest record that is taken, in bytes.
    pub record_bytes_max: usize,
}
