//! Counters of the Kafka queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::connection::Causes;

/// Counts since start, over all workers that share it.
#[derive(Debug, Default)]
pub struct KafkaStats {
    /// Records handed to librdkafka, each sending counted.
    pub published: AtomicU64,
    /// Records that the broker acknowledged.
    pub stored: AtomicU64,
    /// Records that the broker or librdkafka gave back.
    pub failed: AtomicU64,
    /// Records not taken because the queue was away or the local buffer full.
    pub refused: AtomicU64,
    /// Times that the uplink went away after it had been reached.
    pub outages: AtomicU64,
    /// Times that nothing was acknowledged for five seconds with records outstanding.
    pub stalls: AtomicU64,
    /// Causes that were logged of the trouble that they have in common.
    pub(super) causes: Arc<Causes>,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
