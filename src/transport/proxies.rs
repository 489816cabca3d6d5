//! Balancers that are believed about the address of a client.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Balancers that put a PROXY protocol header in front of every connection. Cheap to clone.
#[derive(Clone)]
pub struct Proxies(Arc<dyn Fn(IpAddr) -> bool + Send + Sync>);

impl Proxies {
    /// Those whose addresses `holds` is true of. They must send a header: a connection without one is closed.
    pub fn new(holds: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(holds))
    }

    /// Whether a connection from there begins with a header.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0(address)
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies").finish_non_exhaustive()
    }
}
