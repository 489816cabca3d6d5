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
    /// The answer is larger than a record may be.
    TooLarge,
    /// The answer is no JSON object at all.
    NoRecord(RecordError),
    /// The record has mistakes.
    Record(Vec<RecordError>),
}

impl HttpError {
    /// Whether the service as a whole does not do what it should, and not one record alone.
    pub fn is_outage(&self) -> bool {
        !matches!(self, HttpError::Record(_))
    }

    /// Whether waiting alone does not help.
    pub(super) fn needs_a_human(&self) -> bool {
        matches!(self, HttpError::Settings(_) | HttpError::Certificates(_) | HttpError::Status(300..=499))
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
            HttpError::TooLarge => f.write_str("the answer is too large for a record"),
            HttpError::NoRecord(error) => write!(f, "the answer is no record: {error}"),
            HttpError::Record(mistakes) => {
                f.write_str("the record has mistakes:")?;
                mistakes.iter().try_for_each(|mistake| write!(f, " {mistake};"))
            }
        }
    }
}

impl std::error::Error for HttpError {}
