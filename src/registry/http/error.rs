//! Failures of a request to the service.

use crate::registry::{RecordError, listed};

/// A request without an answer that counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The settings cannot be used.
    #[error("{0}")]
    Settings(&'static str),
    /// No certificate of the system can be trusted; `https` needs them.
    #[error("no certificates of the system: {0}")]
    Certificates(String),
    /// No answer; the client's words.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// No whole answer in time.
    #[error("no whole answer within registry.http.timeout")]
    TimedOut,
    /// Neither 200 nor 404.
    #[error("status {0}")]
    Status(u16),
    /// The answer is not a record, has mistakes, or is larger than a record may be.
    #[error("the answer is no good record:{}", listed(.0))]
    Record(Vec<RecordError>),
}

impl HttpError {
    /// Whether the service answered, and refused this one id: any 4xx but those that are about the bridge's own rights
    /// (401, 403, 407) or about time and load (408, 429).
    pub(super) fn refuses_id(&self) -> bool {
        matches!(self, HttpError::Status(400..=499)) && !matches!(self, HttpError::Status(401 | 403 | 407 | 408 | 429))
    }

    /// Whether waiting alone does not help.
    pub(super) fn is_permanent(&self) -> bool {
        match self {
            HttpError::Settings(_) | HttpError::Certificates(_) | HttpError::Record(_) => true,
            HttpError::Status(code) => matches!(code, 300..=499) && !matches!(code, 408 | 429),
            HttpError::Unreachable(_) | HttpError::TimedOut => false,
        }
    }
}
