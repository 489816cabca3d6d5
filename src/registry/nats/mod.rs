//! Devices in a bucket of NATS KV.
//!
//! 1. The whole bucket is read, then its changes as they come; lookups are local.
//! 2. A change ends the sessions that it forbids at once.
//! 3. When the server is lost, what is known goes on for [`GRACE`]; then CONNECT gets "away". Children are looked up in
//!    what is known all the time.
//! 4. When the server is back, the whole bucket is read again beside what is in force, and takes its place; differences
//!    end sessions.
#![expect(clippy::disallowed_methods, reason = "outside the pure core, so it reads the clock itself")]

mod bucket;
mod error;
mod feed;
mod follow;
mod key;
mod known;

pub use bucket::{Bucket, IfMissing, StoredDevice};
pub use error::BucketError;
pub use key::Key;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use async_nats::{ConnectOptions, Event, ServerAddr};

use self::feed::Entry;
use self::known::Known;
use super::{Change, Lookup};
use crate::protocol::child;

/// How long CONNECT is answered from what is known after the server was lost.
pub const GRACE: Duration = Duration::from_secs(5);

/// The server is there, and everything it has is known.
const LIVE: u64 = u64::MAX;

/// Nothing was read yet.
const NEVER: u64 = u64::MAX - 1;

/// Parameters of the registry in NATS KV.
#[derive(Debug, Clone)]
pub struct NatsRegistrySettings {
    /// Servers to start from; at least one.
    pub servers: Vec<ServerAddr>,
    /// How to connect: names, certificates, credentials, pauses between attempts.
    pub options: ConnectOptions,
    /// JetStream domain of the bucket; `None` is that of the servers themselves.
    pub domain: Option<String>,
    /// Hears of the connection's events.
    pub observer: Option<Arc<dyn ConnectionObserver>>,
    /// Name of the bucket.
    pub bucket: String,
    /// Copies of the bucket in the cluster, where it has to be made.
    pub replicas: usize,
    /// Whether secrets of products count.
    pub product_secrets: bool,
}

/// Hears of the events of a connection to NATS.
pub trait ConnectionObserver: fmt::Debug + Send + Sync {
    /// Takes what the client tells, inside its runtime.
    fn hear(&self, event: &Event);

    /// The connection will be left for another one, for that cause.
    fn leaves(&self, cause: &str);
}

/// A registry in NATS KV. Lookups take a shared lock for the time of one hash look-up.
#[derive(Debug)]
pub struct NatsRegistry {
    settings: NatsRegistrySettings,
    start: Instant,
    known: RwLock<Known>,
    /// When the server was lost, in us since the start; or [`LIVE`], or [`NEVER`].
    lost_us: AtomicU64,
}

impl NatsRegistry {
    /// Knows nothing until [`NatsRegistry::follow`] runs.
    pub fn new(settings: NatsRegistrySettings) -> Self {
        let known = Known::new(settings.product_secrets);
        Self { settings, start: Instant::now(), known: RwLock::new(known), lost_us: AtomicU64::new(NEVER) }
    }

    /// Looks a device up.
    pub fn device(&self, id: &str) -> Lookup {
        if self.is_away() {
            return Lookup::Away;
        }
        self.known.read().unwrap_or_else(PoisonError::into_inner).device(id)
    }

    /// Looks a device up in what is known, however old that is.
    pub fn last_known(&self, id: &str) -> Lookup {
        self.known.read().unwrap_or_else(PoisonError::into_inner).catalog.device(id)
    }

    /// Looks a child up in what is known, however old that is.
    pub fn child(&self, id: &str) -> child::Child {
        self.known.read().unwrap_or_else(PoisonError::into_inner).catalog.child(id)
    }

    /// Follows the bucket until the future is dropped. `report` hears of every change once it is in force.
    pub async fn follow(&self, report: impl FnMut(Change)) {
        follow::follow(self, report).await;
    }

    fn is_away(&self) -> bool {
        match self.lost_us.load(Ordering::Acquire) {
            LIVE => false,
            NEVER => true,
            lost_us => self.start.elapsed() >= Duration::from_micros(lost_us) + GRACE,
        }
    }

    /// Notes that the server is there and all is known.
    fn set_live(&self) {
        self.lost_us.store(LIVE, Ordering::Release);
    }

    /// Notes that the server is lost; whether it was there before.
    fn set_lost(&self) -> bool {
        let now_us = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(NEVER).min(NEVER - 1);
        self.lost_us.compare_exchange(LIVE, now_us, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Whether everything was known at some time.
    fn was_reached(&self) -> bool {
        self.lost_us.load(Ordering::Acquire) != NEVER
    }

    /// Puts everything that was read in the place of what was known.
    fn replace(&self, mut next: Known) -> Change {
        // Only the caller's task writes, so nothing changes between the two locks.
        let ended = {
            let before = self.known.read().unwrap_or_else(PoisonError::into_inner);
            next.keep_unreadable(&before);
            before.catalog.ended_by(&next.catalog)
        };
        let known = next.catalog.len();
        let before = {
            let mut place = self.known.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *place, next)
        };
        drop(before);
        Change::Devices { known, ended }
    }

    /// Takes one change in.
    fn apply(&self, entry: Entry) -> Change {
        self.known.write().unwrap_or_else(PoisonError::into_inner).take(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::id::{DeviceId, ProductId};
    use crate::protocol::secret::Secret;
    use crate::registry::{Credentials, Device, Product, RecordError};

    fn registry(product_secrets: bool) -> NatsRegistry {
        let (servers, options) = (Vec::new(), async_nats::ConnectOptions::new());
        NatsRegistry::new(NatsRegistrySettings {
            servers,
            options,
            domain: None,
            observer: None,
            bucket: "b".to_owned(),
            replicas: 1,
            product_secrets,
        })
    }

    fn id(text: &str) -> DeviceId {
        DeviceId::new(text).unwrap()
    }

    fn secret(key: &str) -> Option<Credentials> {
        Some(Credentials { secure_id: "test".into(), secure_key: Secret::new(key) })
    }

    fn good(name: &str, key: Option<&str>) -> Entry {
        let product = ProductId::new("product1").unwrap();
        let credentials = key.and_then(secret);
        let device =
            Device { id: id(name), product, credentials, enabled: true, gateway: None, children: Box::default() };
        Entry::Device(id(name), Some(Ok(device)))
    }

    fn broken(name: &str) -> Entry {
        Entry::Device(id(name), Some(Err(vec![RecordError::Missing("product")])))
    }

    fn read(product_secrets: bool, entries: impl IntoIterator<Item = Entry>) -> Known {
        let mut known = Known::new(product_secrets);
        for entry in entries {
            known.take(entry);
        }
        known
    }

    fn ended(change: Change) -> Vec<String> {
        match change {
            Change::Devices { ended, .. } => ended.iter().map(ToString::to_string).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn is_found(registry: &NatsRegistry, name: &str) -> bool {
        matches!(registry.device(name), Lookup::Found(_))
    }

    #[test]
    fn nobody_is_let_in_before_everything_was_read() {
        let registry = registry(false);
        registry.apply(good("device1", Some("k")));
        assert_eq!(registry.device("device1"), Lookup::Away);
        assert_eq!(registry.device("device2"), Lookup::Away);
        assert!(!registry.set_lost() && !registry.was_reached());
        registry.set_live();
        assert!(is_found(&registry, "device1"));
        assert_eq!(registry.device("device2"), Lookup::Unknown);
    }

    #[test]
    fn a_lost_server_is_answered_for_a_while_and_children_are_known_all_the_time() {
        let registry = registry(false);
        registry.replace(read(false, [good("device1", Some("k"))]));
        registry.set_live();
        assert!(registry.set_lost());
        assert!(is_found(&registry, "device1"), "within the grace");
        registry.lost_us.store(0, Ordering::Release);
        let long_ago = NatsRegistry { start: registry.start - GRACE, ..registry };
        assert_eq!(long_ago.device("device1"), Lookup::Away);
        assert!(matches!(long_ago.child("device1"), child::Child::Known { .. }));
        assert!(matches!(long_ago.last_known("device1"), Lookup::Found(_)));
        assert!(!long_ago.set_lost(), "it is lost already");
        long_ago.set_live();
        assert!(is_found(&long_ago, "device1"));
    }

    #[test]
    fn a_record_that_cannot_be_read_admits_nobody_and_ends_nobody() {
        let registry = registry(false);
        registry.set_live();
        registry.replace(read(false, [good("device1", Some("k")), broken("device2")]));
        assert!(matches!(registry.apply(broken("device1")), Change::Unreadable { .. }));
        assert_eq!((registry.device("device1"), registry.device("device2")), (Lookup::Away, Lookup::Away));
        // Read again as a whole it is still the same session's record.
        assert_eq!(ended(registry.replace(read(false, [broken("device1")]))), [""; 0]);
        assert_eq!(registry.device("device1"), Lookup::Away);
        assert_eq!(ended(registry.apply(good("device1", Some("k")))), [""; 0]);
        assert!(is_found(&registry, "device1"));
        assert_eq!(ended(registry.apply(Entry::Device(id("device1"), None))), ["device1"]);
        assert_eq!(registry.device("device1"), Lookup::Unknown);
    }

    #[test]
    fn a_product_that_cannot_be_read_ends_nobody() {
        let product = |record| Entry::Product(ProductId::new("product1").unwrap(), record);
        let own = Product { id: ProductId::new("product1").unwrap(), credentials: secret("pk") };
        let registry = registry(true);
        registry.set_live();
        registry.replace(read(true, [product(Some(Ok(own))), good("device1", None)]));
        let broken = || product(Some(Err(vec![RecordError::NoObject])));
        registry.apply(broken());
        assert_eq!(ended(registry.replace(read(true, [broken(), good("device1", None)]))), [""; 0]);
        let Lookup::Found(device) = registry.device("device1") else { panic!("device1") };
        assert_eq!(device.expected().secure_key, "pk");
        assert_eq!(ended(registry.apply(product(None))), ["device1"]);
    }
}
