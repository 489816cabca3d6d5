//! Failures of the bucket.

/// A failure of the bucket; the texts are the client's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// The server does not answer.
    #[error("NATS does not answer: {0}")]
    Unreachable(String),
    /// The server answers, and refuses.
    #[error("NATS refuses: {0}")]
    Refused(String),
    /// The bucket does not exist.
    #[error("bucket {0} does not exist")]
    Missing(String),
    /// The bucket does not exist and could not be made: its name, the cause.
    #[error("bucket {0} does not exist and cannot be made: {1}")]
    NotMade(String, String),
    /// The stream of that name is not a bucket: it keeps no latest value for each key.
    #[error("{0} is a stream, and not a bucket")]
    NoBucket(String),
    /// The connection was lost.
    #[error("the connection was lost")]
    Lost,
    /// Records stopped to come.
    #[error("the bucket does not report its changes any more: {0}")]
    Silent(String),
    /// Records were lost on their way.
    #[error("changes of the bucket were lost on their way")]
    Gap,
}

impl BucketError {
    /// Whether waiting alone does not help.
    pub(super) fn is_permanent(&self) -> bool {
        matches!(
            self,
            BucketError::Refused(_) | BucketError::Missing(_) | BucketError::NotMade(..) | BucketError::NoBucket(_)
        )
    }
}
