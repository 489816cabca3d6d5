//! Envelopes as a reader finds them in a queue.

use std::time::SystemTime;

use bytes::Bytes;

/// From where a reader reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// From the oldest to what is the newest at the opening; then the reader ends.
    Beginning,
    /// From the first one that was stored at that time or later, by the clock of the queue (of a Kafka topic: the timestamps
    /// of its records), to what is the newest at the opening; then the reader ends.
    Time(SystemTime),
    /// From so many before what is the newest at the opening, of each partition of a Kafka topic, to that one; then the reader
    /// ends.
    Last(u64),
    /// Envelopes stored after the opening; the reader never ends.
    Now,
}

/// Where an envelope is stored. Places compare within one partition, and on NATS altogether.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// In a partition of a Kafka topic.
    Partition {
        /// The partition.
        partition: i32,
        /// The offset in it.
        offset: i64,
    },
    /// In the NATS stream, by its sequence number.
    Sequence(u64),
}

/// One stored envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Where.
    pub place: Position,
    /// The Kafka key or the NATS subject; empty where there is no key.
    pub address: String,
    /// The value: the envelope, or in binary mode its `data`.
    pub payload: Bytes,
    /// Header `content-type`.
    pub content_type: Option<String>,
    /// Binary mode: the envelope's attributes by their bare names.
    pub attributes: Vec<(String, String)>,
    /// Time of storing by the clock of the queue, of a Kafka topic the timestamp of the record, in ms since 1970; 0 where the
    /// queue tells none.
    pub stored_ms: i64,
}

/// Why a queue cannot be read; the texts are the client's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The settings cannot be used.
    #[error("the queue's settings cannot be used: {0}")]
    Settings(String),
    /// It does not answer.
    #[error("the queue does not answer: {0}")]
    Unreachable(String),
    /// The stream or the topic does not exist.
    #[error("{0} does not exist")]
    Missing(String),
    /// It was lost while it was being read.
    #[error("the queue was lost: {0}")]
    Lost(String),
    /// It does not answer for now, and the text says why. The reader goes on.
    #[error("the queue does not answer for now: {0}")]
    Waiting(String),
    /// Some of it can never be read, and the text says which part. The reader stands behind it and goes on.
    #[error("{0}")]
    Unreadable(String),
}
