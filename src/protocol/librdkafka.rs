//! Properties of librdkafka that are not the user's: a promise rests on them, or a setting has another name.
//!
//! The configuration refuses them, and the queue refuses them again, for it has other callers too: both by this list.

/// Properties that the bridge sets itself, for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved {
    /// Their names, with all aliases.
    pub names: &'static [&'static str],
    /// The reason, in one sentence for the user.
    pub reason: &'static str,
}

/// All of them.
pub const RESERVED: [Reserved; 19] = [
    Reserved { names: &["bootstrap.servers", "metadata.broker.list"], reason: "set kafka.brokers instead" },
    Reserved { names: &["group.id"], reason: "set kafka.group instead" },
    Reserved {
        names: &["acks", "request.required.acks"],
        reason: "it is all: with less an acknowledged message could be lost",
    },
    Reserved {
        names: &[
            "enable.idempotence",
            "max.in.flight",
            "max.in.flight.requests.per.connection",
            "message.send.max.retries",
            "queuing.strategy",
            "retries",
        ],
        reason: "the order of messages rests on the idempotent producer",
    },
    Reserved {
        names: &["partitioner"],
        reason: "it is murmur2_random, as Java's: the order of a device's messages and who reads them rest on it",
    },
    Reserved {
        names: &["enable.gapless.guarantee"],
        reason: "one record that fails would end the producer for all devices",
    },
    Reserved {
        names: &["delivery.timeout.ms", "message.timeout.ms"],
        reason: "limits.ack_timeout decides how long a message may take",
    },
    Reserved {
        names: &["transaction.timeout.ms", "transactional.id"],
        reason: "the bridge has no transactions: nobody would commit them",
    },
    Reserved {
        names: &["queue.buffering.max.kbytes", "queue.buffering.max.messages"],
        reason: "limits.inflight_bytes and limits.inflight_per_connection bound what waits",
    },
    Reserved {
        names: &["delivery.report.only.error", "enabled_events"],
        reason: "a device gets its acknowledgement by the report of the delivery",
    },
    Reserved { names: &["allow.auto.create.topics"], reason: "kafka.create_topics decides whether topics are created" },
    Reserved {
        names: &[
            "auto.commit.enable",
            "auto.commit.interval.ms",
            "auto.offset.reset",
            "enable.auto.commit",
            "enable.auto.offset.store",
            "enable.partition.eof",
            "offset.store.method",
        ],
        reason: "the offset of a command moves on with its outcome: else commands are lost, or carried out again",
    },
    Reserved {
        names: &["group.protocol", "group.protocol.type", "group.remote.assignor", "partition.assignment.strategy"],
        reason: "replicas share the commands in a group of the classic protocol, cooperative-sticky",
    },
    Reserved {
        names: &["isolation.level"],
        reason: "it is read_committed: commands of an aborted transaction must not be carried out",
    },
    Reserved {
        names: &["check.crcs"],
        reason: "at a wrong checksum librdkafka loses its place in the partition, and may begin it anew",
    },
    Reserved {
        names: &[
            "metadata.recovery.strategy",
            "reconnect.backoff.max.ms",
            "reconnect.backoff.ms",
            "retry.backoff.max.ms",
            "retry.backoff.ms",
            "socket.max.fails",
        ],
        reason: "brokers that hang are left, and those that return are used within 10 s",
    },
    Reserved {
        names: &["api.version.fallback.ms", "api.version.request", "broker.version.fallback"],
        reason: "headers and idempotence need what the brokers say that they can do",
    },
    Reserved {
        names: &["statistics.interval.ms"],
        reason: "partitions that are stuck are found by the statistics, and named with the cause",
    },
    Reserved {
        names: &["internal.termination.signal"],
        reason: "signals end the bridge without a loss, which is not for a library to change",
    },
];

/// Names that stand for another one.
const ALIASES: [(&str, &str); 11] = [
    ("acks", "request.required.acks"),
    ("bootstrap.servers", "metadata.broker.list"),
    ("compression.type", "compression.codec"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("linger.ms", "queue.buffering.max.ms"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("retries", "message.send.max.retries"),
    ("sasl.mechanism", "sasl.mechanisms"),
    ("sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id"),
    ("sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.secret"),
];

/// Reason why the user cannot set this property; `None` where he can. librdkafka accepts topic properties with `topic.` in
/// front, too.
pub fn reason_against(name: &str) -> Option<&'static str> {
    let name = name.strip_prefix("topic.").unwrap_or(name);
    RESERVED.iter().find(|reserved| reserved.names.contains(&name)).map(|reserved| reserved.reason)
}

/// The name that this one stands for, or itself. Of two names of one property nobody knows which counts.
pub fn canonical(name: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_property_is_known_by_each_of_its_names() {
        for name in ["acks", "topic.acks", "request.required.acks", "topic.partitioner", "retries"] {
            assert!(reason_against(name).is_some(), "{name}");
        }
        for name in ["linger.ms", "compression.codec", "group.instance.id", "session.timeout.ms", "socket.timeout.ms"] {
            assert_eq!(reason_against(name), None, "{name}");
        }
        for (alias, name) in ALIASES {
            assert_eq!(reason_against(alias), reason_against(name), "{alias} is {name}");
        }
    }

    #[test]
    fn an_alias_stands_for_one_property() {
        assert_eq!(canonical("linger.ms"), canonical("queue.buffering.max.ms"));
        assert_eq!(canonical("sasl.username"), "sasl.username");
    }
}
