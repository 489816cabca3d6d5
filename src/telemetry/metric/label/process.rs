//! Labels of what is counted beside the workers.

use super::{Label, label};
use crate::replica::claim::ClaimError;

label! {
    /// Use of a certificate.
    "use" CertificateUse {
        /// MQTT over TLS, with WebSocket or without.
        Mqtt = "mqtt",
        /// CoAP over DTLS.
        Dtls = "dtls",
        /// The bridge as a client of Kafka.
        KafkaClient = "kafka_client",
        /// The bridge as a client of NATS.
        NatsClient = "nats_client",
        /// The JWT of the bridge's user on NATS.
        NatsCredentials = "nats_credentials",
    }
}

label! {
    /// Result of a change of the registry, or of a certificate.
    "result" ReloadResult {
        /// In force.
        Replaced = "replaced",
        /// It has mistakes, or cannot be read; what was before stays.
        Refused = "refused",
    }
}

label! {
    /// Answer of the registry behind HTTP.
    "outcome" RegistryAnswer {
        /// A record.
        Found = "found",
        /// 404: no such device.
        Unknown = "unknown",
        /// A record with mistakes, or something else than a record; nobody is let in by it.
        Unreadable = "unreadable",
        /// Another 4xx, which is about this id alone.
        Refused = "refused",
        /// No answer in time, or another status.
        Failed = "failed",
    }
}

label! {
    /// Result of looking a device up in the registry.
    "result" LookupResult {
        /// It knows the device.
        Found = "found",
        /// It does not.
        Unknown = "unknown",
        /// It does not answer.
        Away = "away",
        /// It answers, and too slowly for all who ask.
        Late = "late",
    }
}

label! {
    /// Whether a look-up could be answered without asking.
    "result" CacheResult {
        /// It could.
        Hit = "hit",
        /// The service was asked.
        Miss = "miss",
    }
}

label! {
    /// Kind of an entry of the cache.
    "kind" CachedRecord {
        /// The record of a device.
        Device = "device",
        /// That there is no such device.
        Unknown = "unknown",
    }
}

label! {
    /// Answer to another replica's claim on a device that this one holds, too.
    "verdict" ClaimVerdict {
        /// It is older, and was told so.
        Insist = "insist",
        /// It is newer, and was asked whether it lives.
        Ask = "ask",
        /// It lives: the own session gave way.
        Yield = "yield",
    }
}

label! {
    "reason" for ClaimError {
        Malformed = "malformed",
        Unsigned = "unsigned",
        WrongSignature = "wrong_signature",
    }
}

label! {
    /// Part that a connection to NATS plays.
    "role" NatsRole {
        /// Messages of devices.
        Uplink = "uplink",
        /// Commands, and their outcomes.
        Commands = "commands",
        /// Claims of replicas.
        Coordination = "coordination",
        /// Commands from Kafka for devices of other replicas.
        HandOver = "hand_over",
        /// Records of devices.
        Registry = "registry",
    }
}

label! {
    /// Result of handing a record to the queue.
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
    /// Result of sending the outcome of a command.
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
    /// Handling of a record of the topic of commands.
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
        /// Rejected: it is not a command.
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

label! {
    /// Result of the export of a span.
    "outcome" SpanOutcome {
        /// The collector has it.
        Exported = "exported",
        /// More were made than could wait.
        Dropped = "dropped",
        /// The collector was away for too long, or refused it.
        Failed = "failed",
    }
}
