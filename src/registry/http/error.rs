//! Why the service gives no record.

use std::fmt;

use crate::registry::RecordError;

/// Why one request gave no answer that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpError {
    /// The settings cannot be used.
    Settings(&'static str),
    /// No certificate of the system can be trusted; `https` needs them.
    Certificates(String),
    /// No answer; the client's words.
    Unreachable(String),
    /// No whole answer in time.
    TimedOut,
    /// Neither 200 nor 404.
    Status(u16),
    /// What came for a record is none, has mistakes, or is larger than a record may be.
    Record(Vec<RecordError>),
}

impl HttpError {
    /// Whether the service answered, and refused this one id: any 4xx but those that are about the bridge's own rights
    /// (401, 403, 407) or about time and load (408, 429).
    pub(super) fn refuses_id(&self) -> bool {
        matches!(self, HttpError::Status(400..=499)) && !matches!(self, HttpError::Status(401 | 403 | 407 | 408 | 429))
    }

    /// Whether waiting alone does not help.
    pub(super) fn needs_a_human(&self) -> bool {
        match self {
            HttpError::Settings(_) | HttpError::Certificates(_) | HttpError::Record(_) => true,
            HttpError::Status(code) => matches!(code, 300..=499) && !matches!(code, 408 | 429),
            HttpError::Unreachable(_) | HttpError::TimedOut => false,
        }
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpError::Settings(cause) => f.write_str(cause),
            HttpError::Certificates(cause) => write!(f, "no certificates of the system: {cause}"),
            HttpError::Unreachable(cause) => write!(f, "no answer: {cause}"),
            HttpError::TimedOut => f.write_str("no answer in time"),
            HttpError::Status(code) => write!(f, "status {code}"),
            HttpError::Record(mistakes) => {
                f.write_str("the answer is no good record:")?;
                mistakes.iter().try_for_each(|mistake| write!(f, " {mistake};"))
            }
        }
    }
}

impl std::error::Error for HttpError {}
