//! Metrics of counters that queues, registry and log keep for themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::Level;

use super::queues::Queues;
use crate::queue::kafka::{KafkaCommandStats, KafkaStats};
use crate::queue::nats::{ConnectionRole, ConnectionTallies, NatsStats};
use crate::queue::stdio::StdioStats;
use crate::registry::Registry;
use crate::telemetry::log::LogControl;
use crate::telemetry::metric;
use crate::telemetry::metric::{
    AnswerResult, CacheResult, CachedRecord, HandOverFailure, KafkaCommandFate, LogLevel, Metrics, NatsRole,
    ProcessMetrics, QueueResult,
};

/// Counters of the queues. A queue that is not used counts nothing, so that numbers of the same meaning can be added up.
#[derive(Debug, Clone, Default)]
pub struct QueueStats {
    /// NATS, for messages of devices.
    pub nats_uplink: Arc<NatsStats>,
    /// NATS, for commands.
    pub nats_commands: Arc<NatsStats>,
    /// The connections to NATS.
    pub nats_connections: ConnectionTallies,
    /// Kafka, for messages of devices.
    pub kafka: Arc<KafkaStats>,
    /// Kafka, for commands.
    pub kafka_commands: Arc<KafkaCommandStats>,
    /// stdin and stdout.
    pub stdio: Arc<StdioStats>,
}

/// Writes the limits in force into the metrics whenever the page is read; `connections` are served at most.
pub fn limits(metrics: &Metrics, connections: usize, inflight_bytes: usize) {
    metrics.read_from(move |process| {
        process.limit_connections.set(connections as u64);
        process.limit_inflight_bytes.set(inflight_bytes as u64);
        // It can change while the process runs, as when a pod is given more.
        process.limit_memory_bytes.set(metric::memory_limit().unwrap_or_default());
    });
}

/// Copies the counters into the metrics whenever the page is read.
pub fn collect(metrics: &Metrics, queues: &Queues, registry: &Registry, log: &LogControl) {
    let stats = queues.stats.clone();
    metrics.read_from(move |process| stats.write(process));
    if let Registry::Http(http) = registry {
        let http = http.clone();
        metrics.read_from(move |process| {
            let cache = http.cache_stats();
            process.cache_lookups[CacheResult::Hit].set(cache.hits);
            process.cache_lookups[CacheResult::Miss].set(cache.misses);
            process.lookups_waiting.set(http.waiting() as u64);
            process.cache_entries[CachedRecord::Device].set(cache.devices as u64);
            process.cache_entries[CachedRecord::Unknown].set(cache.unknown as u64);
        });
    }
    let log = log.clone();
    metrics.read_from(move |process| {
        process.log_lines_suppressed[LogLevel::Error].set(log.suppressed(Level::ERROR));
        process.log_lines_suppressed[LogLevel::Warn].set(log.suppressed(Level::WARN));
        process.log_lines_dropped.set(log.unread());
    });
}

impl QueueStats {
    fn write(&self, process: &ProcessMetrics) {
        let Self { nats_uplink, nats_commands, nats_connections, kafka, kafka_commands, stdio } = self;
        let stored = sum([&nats_uplink.stored, &kafka.stored, &stdio.stored]);
        process.queue_records[QueueResult::Stored].set(stored);
        process.queue_records[QueueResult::Failed].set(sum([&nats_uplink.failed, &kafka.failed, &stdio.failed]));
        process.queue_records[QueueResult::Refused].set(sum([&nats_uplink.refused, &kafka.refused, &stdio.refused]));
        process.queue_outages.set(sum([&nats_uplink.outages, &kafka.outages]));
        process.queue_stalls.set(sum([&nats_uplink.stalls, &kafka.stalls]));
        process.queue_acknowledgements_lost.set(sum([&nats_uplink.acknowledgements_skipped]));
        process.foreign_acknowledgements.set(sum([&nats_uplink.foreign_acknowledgements]));
        let sent = sum([&nats_commands.answers, &kafka_commands.answered, &stdio.answers]);
        process.command_answers[AnswerResult::Sent].set(sent);
        process.command_answers[AnswerResult::Repeated].set(sum([&kafka_commands.answered_again]));
        let dropped = sum([&nats_commands.answers_dropped, &kafka_commands.answers_dropped]);
        process.command_answers[AnswerResult::Dropped].set(dropped);
        process.unproved_interests.set(sum([&nats_commands.unconfirmed_interests]));
        write_connections(nats_connections, process);
        process.refused_interests.set(sum([&nats_commands.refused_interests]));
        process.covered.set(u64::from(!nats_commands.foreign_streams().is_empty()));
        for (fate, count) in [
            (KafkaCommandFate::Local, &kafka_commands.local),
            (KafkaCommandFate::HandedOver, &kafka_commands.handed_over),
            (KafkaCommandFate::Foreign, &kafka_commands.foreign),
            (KafkaCommandFate::Stale, &kafka_commands.stale),
            (KafkaCommandFate::Refused, &kafka_commands.refused),
            (KafkaCommandFate::Unreadable, &kafka_commands.unreadable),
        ] {
            process.kafka_commands[fate].set(sum([count]));
        }
        process.hand_over_failures[HandOverFailure::Offline].set(sum([&kafka_commands.offline]));
        process.hand_over_failures[HandOverFailure::TimedOut].set(sum([&kafka_commands.timed_out]));
        process.hand_over_failures[HandOverFailure::NotSent].set(sum([&kafka_commands.not_sent]));
        process.kafka_lag.set(sum([&kafka_commands.lag]));
        process.kafka_skipped.set(sum([&kafka_commands.skipped_batches]));
        process.kafka_abandoned.set(sum([&kafka_commands.abandoned]));
        process.kafka_rebalances.set(sum([&kafka_commands.rebalances]));
    }
}

fn write_connections(connections: &ConnectionTallies, process: &ProcessMetrics) {
    for role in ConnectionRole::ALL {
        let counts = connections.of(role);
        let label = match role {
            ConnectionRole::Uplink => NatsRole::Uplink,
            ConnectionRole::Commands => NatsRole::Commands,
            ConnectionRole::Coordination => NatsRole::Coordination,
            ConnectionRole::HandOver => NatsRole::HandOver,
            ConnectionRole::Registry => NatsRole::Registry,
        };
        if let Some(connected) = counts.connected {
            process.nats_connected[label].set(connected);
        }
        process.nats_reconnects[label].set(counts.reconnects);
        process.nats_slow_consumer[label].set(counts.slow_consumer);
    }
}

fn sum<const N: usize>(counts: [&AtomicU64; N]) -> u64 {
    counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
}
