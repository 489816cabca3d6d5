//! The meaning of an error for one record.

use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};

use crate::protocol::uplink::RecordRefusal;
use crate::queue::kafka::connection::{Causes, Subject};

/// The consequence for a record that was not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Kafka never stores it.
    Permanent(RecordRefusal),
    /// The batch that it was in was too large; it may be small enough by itself.
    LargeBatch,
    /// It is to be sent again: its partition has no leader, a right is missing, time was short.
    Temporary,
    /// Its producer was given up.
    Purged,
}

/// Sorts the error of a record that was in a batch. `record_bytes` is the size of a batch of the record alone, `batch_bytes`
/// what the producer fills batches up to: a record that is larger has a batch to itself.
pub(crate) fn of(error: &ClientError, record_bytes: usize, batch_bytes: usize) -> Failure {
    use RDKafkaErrorCode::{
        InvalidMessageSize, InvalidRecord, InvalidTimestamp, MessageBatchTooLarge, MessageSizeTooLarge, PurgeInflight,
        PurgeQueue,
    };
    match error.rdkafka_error_code() {
        Some(PurgeQueue | PurgeInflight) => Failure::Purged,
        Some(MessageSizeTooLarge | MessageBatchTooLarge | InvalidMessageSize) => {
            let is_alone = batch_bytes == 1 || record_bytes > batch_bytes;
            if is_alone { Failure::Permanent(too_large(record_bytes, &words(error))) } else { Failure::LargeBatch }
        }
        Some(InvalidRecord | InvalidTimestamp) => Failure::Permanent(RecordRefusal::Rule(words(error))),
        _ => Failure::Temporary,
    }
}

/// Logs why records to a topic come back. That it took too long is no cause: what is behind it is told otherwise.
pub(crate) fn log(causes: &Causes, subject: Subject, topic: &str, error: &ClientError) {
    let code = error.rdkafka_error_code();
    if code != Some(RDKafkaErrorCode::MessageTimedOut) && code != Some(RDKafkaErrorCode::InvalidDifferentRecord) {
        causes.other(subject, &format!("topic {topic}: {}", words(error)));
    }
}

/// The refusal of a record of that size.
pub(crate) fn too_large(record_bytes: usize, words: &str) -> RecordRefusal {
    RecordRefusal::TooLarge(format!("{words} ({record_bytes} bytes)"))
}

fn words(error: &ClientError) -> String {
    error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_the_records_own_fault_only_where_it_was_alone() {
        let sort = |record_bytes, batch_bytes| {
            let error = ClientError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge);
            of(&error, record_bytes, batch_bytes)
        };
        assert_eq!(sort(1_000, 131_072), Failure::LargeBatch);
        assert!(matches!(sort(131_073, 131_072), Failure::Permanent(RecordRefusal::TooLarge(_))));
        assert!(
            matches!(sort(100, 1), Failure::Permanent(RecordRefusal::TooLarge(_))),
            "each record has a batch of its own"
        );
    }

    #[test]
    fn a_rule_about_a_record_is_final_and_a_missing_leader_or_right_is_not() {
        use RDKafkaErrorCode::{
            InvalidDifferentRecord, InvalidRecord, InvalidTimestamp, LeaderNotAvailable, MessageTimedOut,
            NotEnoughReplicas, PurgeInflight, PurgeQueue, TopicAuthorizationFailed,
        };
        let sort = |code| of(&ClientError::MessageProduction(code), 100, 1000);
        for code in [InvalidRecord, InvalidTimestamp] {
            assert!(matches!(sort(code), Failure::Permanent(RecordRefusal::Rule(_))), "{code}");
        }
        for code in
            [InvalidDifferentRecord, LeaderNotAvailable, MessageTimedOut, NotEnoughReplicas, TopicAuthorizationFailed]
        {
            assert_eq!(sort(code), Failure::Temporary, "{code}");
        }
        for code in [PurgeQueue, PurgeInflight] {
            assert_eq!(sort(code), Failure::Purged);
        }
    }
}
