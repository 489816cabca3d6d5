//! What other parts of the process count for themselves, taken over when the page is read.

use super::family::{Family, Metric};
use super::label::{Label, label};
use super::process::{CacheResult, CachedRecord};
use super::render::Page;
use super::scalar::{Counter, CounterBy, Gauge, GaugeBy};
use super::worker::metrics;

label! {
    /// What became of a record that was to be handed to the queue.
    "result" QueueResult {
        /// The queue has acknowledged it.
        Stored = "stored",
        /// The queue gave it back.
        Failed = "failed",
        /// It was not handed over: the queue is away, or its line is full.
        Refused = "refused",
    }
}

label! {
    /// What became of the outcome of a command.
    "result" AnswerResult {
        /// It left; with Kafka: it was acknowledged.
        Sent = "sent",
        /// Kafka gave it back, and it was sent once more.
        Repeated = "repeated",
        /// It is lost: too many waited, or the queue never takes it.
        Dropped = "dropped",
    }
}

label! {
    /// What was done with a record of the topic of commands.
    "result" KafkaCommandFate {
        /// Given to a session of this replica.
        Local = "local",
        /// Handed over to the replica that holds the device.
        HandedOver = "handed_over",
        /// Left to others: nothing is handed over, and this replica does not hold the device.
        Foreign = "foreign",
        /// Answered TIME_OUT: it is older than `commands.max_age`.
        Stale = "stale",
        /// Answered with what is wrong with it.
        Refused = "refused",
        /// Rejected: it is no command.
        Unreadable = "unreadable",
    }
}

label! {
    /// Why a command that was handed over came to nothing.
    "reason" HandOverFailure {
        /// No replica holds the device.
        Offline = "offline",
        /// No replica answered in time.
        TimedOut = "timed_out",
        /// NATS does not take it.
        NotSent = "not_sent",
    }
}

label! {
    /// Level of a line of the log that is bounded.
    "level" LogLevel {
        /// Somebody has to act.
        Error = "error",
        /// Something went wrong, and was put right.
        Warn = "warn",
    }
}

metrics! {
    /// Numbers of the queues, the cache of the registry and the log; whoever reads the page writes them before.
    ProcessMetrics {
        queue_records: CounterBy<QueueResult> = "queue_records_total",
            "Records for the queue, presence and repetitions included, by what became of them.";
        queue_outages: Counter = "queue_outages_total",
            "Times that a worker's way to the queue broke after it had been reached.";
        queue_stalls: Counter = "queue_stalls_total",
            "Times that the queue acknowledged nothing for five seconds with records outstanding.";
        queue_acknowledgements_lost: Counter = "queue_acknowledgements_lost_total",
            "Acknowledgements of NATS that found no room; their records were sent again. A lower bound.";
        foreign_acknowledgements: Counter = "foreign_acknowledgements_total",
            "Answers to records from another stream or a subscriber of NATS; they are no acknowledgements.";
        command_answers: CounterBy<AnswerResult> = "command_answers_total",
            "Outcomes of commands on their way to the caller, by what became of them.";
        unproved_interests: Counter = "commands_unproved_interests_total",
            "Sessions that began without proof that NATS brings their commands.";
        covered: Gauge = "commands_stored_by_stream",
            "1 while a stream of NATS stores commands: its acknowledgement answers callers in the device's place.";
        kafka_commands: CounterBy<KafkaCommandFate> = "kafka_commands_total",
            "Records of the topic of commands, by what was done with them.";
        hand_over_failures: CounterBy<HandOverFailure> = "kafka_hand_over_failures_total",
            "Commands from Kafka that were handed over in vain, by reason.";
        kafka_skipped: Counter = "kafka_batches_skipped_total",
            "Batches of the topic of commands that could not be read and were skipped.";
        kafka_abandoned: Counter = "kafka_commands_abandoned_total",
            "Commands under way when their partition left this replica; another one reads them again.";
        kafka_rebalances: Counter = "kafka_rebalances_total",
            "Times that partitions of the topic of commands came to this replica or left it.";
        cache_lookups: CounterBy<CacheResult> = "registry_cache_lookups_total",
            "Look-ups in the cache of the registry behind HTTP, by result.";
        cache_entries: GaugeBy<CachedRecord> = "registry_cache_entries",
            "What the cache of the registry behind HTTP remembers, by kind.";
        log_lines_suppressed: CounterBy<LogLevel> = "log_lines_suppressed_total",
            "Lines that the log left out, as too many of their kind came at once, by level.";
        log_lines_dropped: Counter = "log_lines_dropped_total",
            "Lines that the log left out, as nobody read those before them.";
    }
}
