//! Registries: the sources of the credentials of devices.
//!
//! A record says of a device its product, its secret, and through which gateway it may speak. Lookups never wait for
//! anything with a file and with NATS; [`Registry::device`] is async for registries that have to ask somebody.

mod catalog;
mod change;
mod device;
mod fields;
mod file;
mod fingerprint;
pub mod http;
mod json;
mod mistake;
pub mod nats;
mod parse;
mod pieces;
mod product_ids;
mod records;
mod table;
mod toml_text;
mod watch;

#[cfg(test)]
mod tests;

pub use change::{Asked, Change};
pub use device::{Child, Credentials, Device, Product};
pub use file::{FileError, FileRegistry, Reload};
pub use http::{HttpRegistry, HttpRegistrySettings};
pub use json::{UnknownMembers, read_device, read_product, write_device, write_product};
pub(crate) use mistake::listed;
pub use mistake::{RecordError, RecordMistake, RecordMistakes};
pub use nats::{ConnectionObserver, NatsRegistry, NatsRegistrySettings};
pub use records::{Numbered, Records};
pub use toml_text::write_toml;
pub use watch::Watch;

use std::sync::Arc;

use crate::protocol::child;
use crate::protocol::network::Source;

/// Result of looking an id up in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// A device, perhaps a disabled one.
    Found(Arc<Device>),
    /// No device of that id.
    Unknown,
    /// The registry does not answer: nobody new may enter.
    Away,
    /// The registry answers, and too slowly for all who ask: the look-up waited for its turn in vain. Nobody may enter by it.
    Late,
}

/// The registry in use. Cheap to clone, and to share between threads.
#[derive(Clone)]
pub enum Registry {
    /// A TOML file.
    File(Arc<FileRegistry>),
    /// A bucket in NATS KV.
    Nats(Arc<NatsRegistry>),
    /// A service behind HTTP.
    Http(Arc<HttpRegistry>),
}

impl Registry {
    /// Asks for a device, as CONNECT needs it. `source` is who asks, for a registry that shares out what it can answer.
    pub async fn device(&self, id: &str, source: Source) -> Lookup {
        match self {
            Registry::File(file) => file.device(id),
            Registry::Nats(nats) => nats.device(id),
            Registry::Http(http) => http.device(id, source).await,
        }
    }

    /// The last known record of a device, without asking anybody. [`Lookup::Away`]: nothing is known either way.
    pub fn last_known(&self, id: &str) -> Lookup {
        match self {
            Registry::File(file) => file.device(id),
            Registry::Nats(nats) => nats.last_known(id),
            Registry::Http(http) => http.last_known(id),
        }
    }
}

impl child::Children for Registry {
    fn child(&self, id: &str) -> child::Child {
        match self {
            Registry::File(file) => file.child(id),
            Registry::Nats(nats) => nats.child(id),
            Registry::Http(http) => http.child(id),
        }
    }
}
