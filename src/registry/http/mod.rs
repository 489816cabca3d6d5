//! Devices of a service behind HTTP.
//!
//! 1. A CONNECT is answered from the cache as long as a record counts there; else the service is asked, once for all who
//!    wait for the same device, and the wait is bounded.
//! 2. Only a record of that device and 404 count. Everything else, a slow answer included, admits nobody and ends nobody.
//! 3. The record of a device with a session is asked for again before its time is over; a change that forbids the session
//!    ends it.
//! 4. Whether the service answers at all tells a device that it need not know ([`PROBE`]): at start, while it does not
//!    answer, and after anything but a good answer. An id that a stranger invents must not be able to say it.
#![expect(clippy::disallowed_methods, reason = "outside the pure core, so it reads the clock itself")]

mod asking;
mod cache;
mod client;
mod error;

pub use client::{Answer, HttpClient};
pub use error::HttpError;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use self::cache::Cache;
use super::{Change, Lookup};
use crate::protocol::child;
use crate::protocol::id::DeviceId;
use crate::protocol::network::Source;
use crate::protocol::secret::Secret;

/// The divisor of `requests_max` that gives the requests for renewing records of devices with a session; at least one.
const RENEWALS_SHARE: usize = 4;

/// Look-ups of one protocol that may wait for the service, and of one device that is asked for; more get "away" at once.
/// Some 300 bytes each.
const WAITING_MAX: usize = 10_000;

/// Time for the answer to reach whoever waits for it.
const SPARE: Duration = Duration::from_secs(1);

/// A connection without a request is closed after this time.
const POOL_IDLE: Duration = Duration::from_secs(30);

/// The device that the service is asked for to see whether it answers; it may well be unknown.
pub const PROBE: &str = "jetlinks-bridge";

/// Parameters of the registry behind HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRegistrySettings {
    /// `GET {url}/{id}` answers with a record; `http` or `https`, without user, query and fragment.
    pub url: String,
    /// Bearer token.
    pub token: Option<Secret>,
    /// For one request, and for one device that waits until it is asked for.
    pub timeout: Duration,
    /// Requests under way at once. Each takes a connection and the buffers of one, some 16 KiB, or 64 KiB over TLS, and its answer,
    /// `record_bytes_max` at most.
    pub requests_max: usize,
    /// How long a record counts.
    pub cache_ttl: Duration,
    /// How long "unknown" counts.
    pub negative_ttl: Duration,
    /// Records that are kept, at most; some 450 bytes each. More than devices can be connected.
    pub records_max: usize,
    /// Largest record that is taken, in bytes.
    pub record_bytes_max: usize,
}

/// A registry behind HTTP.
pub struct HttpRegistry {
    client: HttpClient,
    start: Instant,
    timeout: Duration,
    requests_max: usize,
    cache: RwLock<Cache>,
    asks: mpsc::Sender<Ask>,
    /// Until [`HttpRegistry::follow`] takes it.
    asked: Mutex<Option<mpsc::Receiver<Ask>>>,
    hits: AtomicU64,
    misses: AtomicU64,
    waiting: AtomicUsize,
    /// Look-ups that waited for their turn in vain, since the start.
    late: AtomicU64,
    /// Whether the service answers.
    is_answering: AtomicBool,
}

/// How the cache fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheStats {
    /// Look-ups that were answered from it, since the start.
    pub hits: u64,
    /// Look-ups for which the service was asked, since the start.
    pub misses: u64,
    /// Records of devices in it.
    pub devices: usize,
    /// Ids that are remembered as unknown.
    pub unknown: usize,
}

/// Somebody waits for a device.
#[derive(Debug)]
struct Ask {
    id: DeviceId,
    source: Source,
    answer: oneshot::Sender<Lookup>,
    /// Set once the service is being asked for the device.
    is_asked: Arc<AtomicBool>,
}

impl HttpRegistry {
    /// Checks the settings. Asks nothing until [`HttpRegistry::follow`] runs.
    ///
    /// # Errors
    /// [`HttpError::Settings`] and [`HttpError::Certificates`].
    pub fn new(settings: &HttpRegistrySettings) -> Result<Self, HttpError> {
        let (asks, asked) = mpsc::channel(WAITING_MAX);
        Ok(Self {
            client: HttpClient::new(settings)?,
            start: Instant::now(),
            timeout: settings.timeout,
            requests_max: settings.requests_max.max(1),
            cache: RwLock::new(Cache::new(settings)),
            asks,
            asked: Mutex::new(Some(asked)),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            late: AtomicU64::new(0),
            is_answering: AtomicBool::new(false),
        })
    }

    /// Looks a device up for `source`, in the cache or by asking. It waits for its turn no longer than the timeout of the
    /// settings, and as long once more for the answer: whoever is asked for gets what comes of it.
    pub async fn device(&self, id: &str, source: Source) -> Lookup {
        // What is no id is no device, and not worth a question.
        let Ok(id) = DeviceId::new(id) else { return Lookup::Unknown };
        let now_us = self.now_us();
        match self.cache.read().unwrap_or_else(PoisonError::into_inner).fresh(id.as_str(), now_us) {
            Some(known) => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                return known;
            }
            None => self.misses.fetch_add(1, Ordering::Relaxed),
        };
        let (answer, mut answered) = oneshot::channel();
        let is_asked = Arc::new(AtomicBool::new(false));
        if self.asks.try_send(Ask { id, source, answer, is_asked: Arc::clone(&is_asked) }).is_err() {
            return self.too_late();
        }
        let is_asked = || is_asked.load(Ordering::Relaxed);
        match tokio::time::timeout(self.timeout, &mut answered).await {
            Ok(Ok(lookup)) => lookup,
            Err(_) if is_asked() => {
                // The request itself ends in time; what it costs to tell so is little.
                let rest = self.timeout.saturating_add(SPARE);
                tokio::time::timeout(rest, answered).await.ok().and_then(Result::ok).unwrap_or(Lookup::Away)
            }
            Ok(Err(_)) | Err(_) => self.too_late(),
        }
    }

    fn too_late(&self) -> Lookup {
        if !self.is_answering.load(Ordering::Relaxed) {
            return Lookup::Away;
        }
        self.late.fetch_add(1, Ordering::Relaxed);
        Lookup::Late
    }

    /// Look-ups that wait for their turn.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How the cache fares.
    pub fn cache_stats(&self) -> CacheStats {
        let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
        CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            devices: cache.len(),
            unknown: cache.unknown_len(),
        }
    }

    /// Looks a device up in what was last known; [`Lookup::Away`]: nothing.
    pub fn last_known(&self, id: &str) -> Lookup {
        self.cache.read().unwrap_or_else(PoisonError::into_inner).last_known(id)
    }

    /// Looks a child up in what was last known: its own record, or that of its gateway.
    pub fn child(&self, id: &str) -> child::Child {
        self.cache.read().unwrap_or_else(PoisonError::into_inner).child(id)
    }

    /// Asks the service for all who wait, and for devices that are connected, until the future is dropped; `report`
    /// hears of every change once it is in force. A second call ends at once.
    pub async fn follow(&self, is_connected: impl Fn(&str) -> bool, report: impl FnMut(Change)) {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(asked) = asked {
            asking::run(self, asked, is_connected, report).await;
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX / 4)
    }
}
