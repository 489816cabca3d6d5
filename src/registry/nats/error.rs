//! Why the bucket gives no records.

use std::fmt;

/// Why the bucket cannot be used; the texts are the client's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketError {
    /// The server does not answer.
    Unreachable(String),
    /// The server answers, and refuses.
    Refused(String),
    /// The bucket does not exist.
    Missing(String),
    /// The bucket does not exist and could not be made: its name, the cause.
    NotMade(String, String),
    /// What has the name of the bucket keeps no latest value for each key.
    NoBucket(String),
    /// The connection was lost.
    Lost,
    /// Records stopped to come.
    Silent(String),
    /// Records were lost on their way.
    Gap,
}

impl BucketError {
    /// Whether waiting alone does not help.
    pub(super) fn needs_a_human(&self) -> bool {
        matches!(
            self,
            BucketError::Refused(_) | BucketError::Missing(_) | BucketError::NotMade(..) | BucketError::NoBucket(_)
        )
    }
}

impl fmt::Display for BucketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BucketError::Unreachable(cause) => write!(f, "NATS does not answer: {cause}"),
            BucketError::Refused(cause) => write!(f, "NATS refuses: {cause}"),
            BucketError::Missing(bucket) => write!(f, "bucket {bucket} does not exist"),
            BucketError::NotMade(bucket, cause) => {
                write!(f, "bucket {bucket} does not exist and cannot be made: {cause}")
            }
            BucketError::NoBucket(bucket) => write!(f, "{bucket} is a stream and no bucket"),
            BucketError::Lost => f.write_str("the connection was lost"),
            BucketError::Silent(cause) => write!(f, "the bucket does not tell its changes any more: {cause}"),
            BucketError::Gap => f.write_str("changes of the bucket were lost on their way"),
        }
    }
}

impl std::error::Error for BucketError {}
