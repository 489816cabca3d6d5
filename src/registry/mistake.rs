//! Mistakes in records.

use std::fmt;

use crate::protocol::id::IdError;

/// Mistakes shown of one file; a file of 100,000 records may have as many.
const MISTAKES_SHOWN_MAX: usize = 20;

/// A mistake in a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordError {
    /// The file is not valid TOML; the parser's words.
    Syntax(String),
    /// The record is not valid JSON; the parser's words.
    Json(String),
    /// The table is not valid CSV; the parser's words.
    Csv(String),
    /// The record is JSON, and not an object.
    NoObject,
    /// The file has neither devices nor products, and does not say that there shall be none.
    Empty,
    /// No such key here.
    UnknownKey(String),
    /// The key is missing.
    Missing(&'static str),
    /// The record is larger than one may be.
    TooLarge,
    /// The key's value is of another type.
    Type(&'static str, &'static str),
    /// The key's value is not an id.
    Id(&'static str, IdError),
    /// The record is that of another id than the one asked for.
    OtherId,
    /// The id stands in an earlier record, in this line.
    Duplicate(usize),
    /// One half of the secret without the other, or an empty one; the names of both.
    HalfSecret(&'static str, &'static str),
    /// The public half of the secret, by its name, holds `|`, which divides the user name.
    SecureId(&'static str),
    /// The device names itself as its gateway.
    OwnGateway,
    /// No secret, no gateway, and no product with a secret: nobody could speak for it.
    NoSecret,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::Syntax(reason) => write!(f, "invalid TOML: {reason}"),
            RecordError::Json(reason) => write!(f, "invalid JSON: {reason}"),
            RecordError::Csv(reason) => write!(f, "invalid CSV: {reason}"),
            RecordError::NoObject => f.write_str("not a JSON object"),
            RecordError::Empty => f.write_str("no device and no product; where there shall be none, write device = []"),
            RecordError::TooLarge => f.write_str("larger than a record may be"),
            RecordError::UnknownKey(key) => write!(f, "unknown key {key:?}"),
            RecordError::Missing(key) => write!(f, "{key} is missing"),
            RecordError::Type(key, expected) => write!(f, "{key} must be {expected}"),
            RecordError::Id(key, error) => write!(f, "{key}: {error}"),
            RecordError::OtherId => f.write_str("id: the record is that of another one"),
            RecordError::Duplicate(line) => write!(f, "the id stands in line {line} already"),
            RecordError::HalfSecret(id, key) => write!(f, "{id} and {key} go together, and neither may be empty"),
            RecordError::SecureId(id) => write!(f, "{id} must not contain |"),
            RecordError::OwnGateway => f.write_str("a device is not its own gateway"),
            RecordError::NoSecret => f.write_str("neither a secret nor a gateway: it could never speak"),
        }
    }
}

/// One mistake and the record that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordMistake {
    /// `device "device1"`, `device #3`, `product #1`; "" for the file.
    pub record: String,
    /// Line in the file, from 1.
    pub line: usize,
    /// The mistake.
    pub error: RecordError,
}

impl fmt::Display for RecordMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.record.is_empty() { "" } else { ": " };
        write!(f, "line {}: {}{separator}{}", self.line, self.record, self.error)
    }
}

/// The texts of the mistakes in one record, in one line.
pub(crate) fn listed(mistakes: &[RecordError]) -> String {
    mistakes.iter().map(|mistake| format!(" {mistake};")).collect()
}

/// Everything that is wrong with a registry file; never empty. `Display` shows the first 20.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordMistakes(pub Vec<RecordMistake>);

impl fmt::Display for RecordMistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.0.iter().take(MISTAKES_SHOWN_MAX).enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            write!(f, "{separator}{mistake}")?;
        }
        match self.0.len().saturating_sub(MISTAKES_SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for RecordMistakes {}
