//! Metrics beside those of the workers.

use super::declare::metrics;
use super::family::Family;
use super::histogram::Histogram;
use super::label::{
    AnswerResult, CacheResult, CachedRecord, CertificateUse, ClaimVerdict, HandOverFailure, KafkaCommandFate, LogLevel,
    NatsRole, QueueResult, RegistryAnswer, ReloadResult, SpanOutcome,
};
use super::number::{Counter, Gauge, Moment, UsedGauge};
use crate::replica::claim::ClaimError;

metrics! {
    /// The numbers of the coordination between replicas; its thread alone writes them.
    CoordinationMetrics {
        claims: Family<Counter, ClaimVerdict> = "coordination_claims_total",
            "Claims of other replicas on devices that are connected here, by verdict.";
        ignored: Family<Counter, ClaimError> = "coordination_claims_ignored_total",
            "Messages on the subject of claims that do not count, by reason.";
        outages: Counter = "coordination_outages_total",
            "Times that the coordination lost NATS.";
    }
}

metrics! {
    /// The numbers of the registry; the thread that watches it alone writes them.
    RegistryMetrics {
        reloads: Family<Counter, ReloadResult> = "registry_reloads_total",
            "Changes of the registry that were read, by result.";
        devices: Gauge = "registry_devices",
            "Devices of the registry that are known here.";
        stale: Gauge = "registry_stale",
            "1 while an older version of the registry is in force: its file has mistakes or is gone, or it is lost.";
        requests: Family<Counter, RegistryAnswer> = "registry_requests_total",
            "Requests to the registry behind HTTP, by outcome.";
        request: Histogram = "registry_request_duration_seconds",
            "Time of a request to the registry behind HTTP.";
    }
}

metrics! {
    /// The numbers of certificates; of each use one task alone writes them, which follows its files.
    CertificateMetrics {
        expiry: Family<Moment, CertificateUse> = "certificate_expiry_timestamp_seconds",
            "When the certificate in force expires, in seconds since 1970; those that are not used have no series.";
        reloads: Family<Counter, ReloadResult> = "certificate_reloads_total",
            "Changes of the files of certificates that were read, by result.";
        stale: Family<UsedGauge, CertificateUse> = "certificate_stale",
            "1 while an older certificate is in force, as the files hold none that can be used.";
    }
}

metrics! {
    /// The numbers of the commands from Kafka; the thread that reads them alone writes them.
    KafkaMetrics {
        age: Histogram = "kafka_command_age_seconds",
            "Age of a command from Kafka when it was read.";
    }
}

metrics! {
    /// Numbers of the queues, the cache of the registry, the log and the limits; whoever reads the page writes them before.
    ProcessMetrics {
        queue_records: Family<Counter, QueueResult> = "queue_records_total",
            "Records for the queue, presence and repetitions included, by result.";
        queue_outages: Counter = "queue_outages_total",
            "Times that a worker lost its connection to the queue.";
        queue_stalls: Counter = "queue_stalls_total",
            "Times that the queue acknowledged nothing for five seconds with records outstanding.";
        queue_acknowledgements_lost: Counter = "queue_acknowledgements_lost_total",
            "Times that NATS acknowledged later records and not earlier ones; these were sent again.";
        foreign_acknowledgements: Counter = "foreign_acknowledgements_total",
            "Answers to records from another stream or a subscriber of NATS; they are no acknowledgements.";
        nats_connected: Family<UsedGauge, NatsRole> = "nats_connected",
            "Connections to NATS that are up, by role: one for each worker as uplink and for commands; roles without one have no series.";
        nats_reconnects: Family<Counter, NatsRole> = "nats_reconnects_total",
            "Times that a connection to NATS was made again, by role.";
        nats_slow_consumer: Family<Counter, NatsRole> = "nats_slow_consumer_total",
            "Times that a NATS server ended a connection that read too slowly, by role, as far as it said so or the bridge stood still.";
        command_answers: Family<Counter, AnswerResult> = "command_answers_total",
            "Outcomes of commands for their callers, by result.";
        unproved_interests: Counter = "commands_unproved_interests_total",
            "Interests of sessions that began without proof that NATS brings their commands: it was away or slow, or refused them.";
        refused_interests: Gauge = "commands_refused_interests",
            "Subscriptions for commands that NATS refuses at the moment, as far as it tells: of many at once at least 128.";
        covered: Gauge = "commands_stored_by_stream",
            "1 while a stream of NATS stores commands: its acknowledgement answers callers in the device's place.";
        kafka_commands: Family<Counter, KafkaCommandFate> = "kafka_commands_total",
            "Records of the topic of commands, by result.";
        hand_over_failures: Family<Counter, HandOverFailure> = "kafka_hand_over_failures_total",
            "Commands from Kafka whose hand-over failed, by reason.";
        kafka_lag: Gauge = "kafka_command_lag_records",
            "Records of the topic of commands that wait in the partitions of this replica, as last looked at: every five seconds.";
        kafka_skipped: Counter = "kafka_batches_skipped_total",
            "Batches of the topic of commands that could not be read and were skipped.";
        kafka_abandoned: Counter = "kafka_commands_abandoned_total",
            "Commands under way when their partition left this replica; another one reads them again.";
        kafka_rebalances: Counter = "kafka_rebalances_total",
            "Times that partitions of the topic of commands came to this replica or left it.";
        lookups_waiting: Gauge = "registry_lookups_waiting",
            "Look-ups that wait for their turn to ask the registry behind HTTP.";
        cache_lookups: Family<Counter, CacheResult> = "registry_cache_lookups_total",
            "Look-ups in the cache of the registry behind HTTP, by result.";
        cache_entries: Family<Gauge, CachedRecord> = "registry_cache_entries",
            "Entries in the cache of the registry behind HTTP, by kind.";
        log_lines_suppressed: Family<Counter, LogLevel> = "log_lines_suppressed_total",
            "Lines that the log left out, as too many of their kind came at once, by level.";
        log_lines_dropped: Counter = "log_lines_dropped_total",
            "Lines that the log left out, as nobody read those before them.";
        limit_connections: Gauge = "limit_connections",
            "Connections of devices that this replica serves at most: limits.connections, or what open files leave.";
        limit_inflight_bytes: Gauge = "limit_inflight_bytes",
            "Bytes of records on their way to the queue at most, of all workers: limits.inflight_bytes.";
        limit_memory_bytes: Gauge = "limit_memory_bytes",
            "Memory that the control group of the process may use; 0 where there is no limit.";
    }
}

metrics! {
    /// The numbers of one thread that makes spans, or exports them; that thread alone writes them.
    SpanMetrics {
        spans: Family<Counter, SpanOutcome> = "spans_total",
            "Spans of sampled traces, by outcome.";
    }
}

impl RegistryMetrics {
    /// Counts a change that is in force; `devices` are known now.
    pub fn replaced(&self, devices: usize) {
        self.reloads[ReloadResult::Replaced].inc();
        self.devices.set(devices as u64);
    }

    /// Counts a change that cannot be read.
    pub fn refused(&self) {
        self.reloads[ReloadResult::Refused].inc();
    }
}
