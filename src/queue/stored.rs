//! Envelopes as a reader finds them in a queue.

use std::time::SystemTime;

use bytes::Bytes;

/// The envelope at which a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// The oldest. The reader ends behind the envelope that is the newest when it is opened.
    Beginning,
    /// The first one that was stored at that time or later, by the clock of the queue (of a Kafka topic: the timestamps of its
    /// records). The reader ends as with [`ReadFrom::Beginning`].
    Time(SystemTime),
    /// The one with which this many are left to the end, in each partition of a Kafka topic. The reader ends as with
    /// [`ReadFrom::Beginning`].
    Last(u64),
    /// The next one that is stored after the reader is opened. The reader never ends.
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
