//! Counters of the Kafka queue.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::connection::Causes;

/// Counts since start, of the records of all workers that share it.
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

/// Counts since start, of the commands and their outcomes.
#[derive(Debug, Default)]
pub struct KafkaCommandStats {
    /// Records read.
    pub read: AtomicU64,
    /// Commands given to a worker of this replica.
    pub local: AtomicU64,
    /// Commands handed over to another replica.
    pub handed_over: AtomicU64,
    /// Records without an outcome from here: this replica does not hold their device, and nobody hands over.
    pub foreign: AtomicU64,
    /// Records too old to be sent.
    pub stale: AtomicU64,
    /// Commands whose device no replica holds.
    pub offline: AtomicU64,
    /// Hand-overs that nobody answered in time.
    pub timed_out: AtomicU64,
    /// Hand-overs that NATS does not take.
    pub not_sent: AtomicU64,
    /// Commands that contradict themselves or do not go to devices.
    pub refused: AtomicU64,
    /// Records that could not be read as commands.
    pub unreadable: AtomicU64,
    /// Batches that could not be read and were skipped.
    pub skipped_batches: AtomicU64,
    /// Outcomes that Kafka acknowledged.
    pub answered: AtomicU64,
    /// Outcomes that Kafka gave back and that were sent again.
    pub answered_again: AtomicU64,
    /// Outcomes given up, because Kafka takes neither them nor a short failure in their place.
    pub answers_dropped: AtomicU64,
    /// Times that partitions came to this replica or left it.
    pub rebalances: AtomicU64,
    /// Commands under way when their partition left this replica; another one reads them again.
    pub abandoned: AtomicU64,
    /// Records of this replica's partitions that nobody has carried on yet, as last looked at: every five seconds.
    pub lag: AtomicU64,
}
