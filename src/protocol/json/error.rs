//! Why a text is no JSON object.

use std::fmt;

use super::DEPTH_MAX;

/// What is wrong with a text that should be a JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonErrorKind {
    /// It is not UTF-8.
    Utf8,
    /// It ends too early.
    End,
    /// It is JSON so far, and not an object.
    NotObject,
    /// A byte that cannot stand there.
    Unexpected(u8),
    /// A control character inside a string.
    Control(u8),
    /// An escape that does not exist.
    Escape,
    /// Half of a surrogate pair.
    Surrogate,
    /// A number that does not follow the grammar, such as `01` or `1.`.
    Number,
    /// More than [`DEPTH_MAX`] objects and arrays inside each other.
    Depth,
    /// Something follows the object.
    Trailing,
}

/// Why a text is no JSON object, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonError {
    /// What is wrong.
    pub kind: JsonErrorKind,
    /// Index of the byte that is wrong, from 0.
    pub offset: usize,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            JsonErrorKind::Utf8 => f.write_str("invalid UTF-8")?,
            JsonErrorKind::End => f.write_str("JSON that ends too early")?,
            JsonErrorKind::NotObject => f.write_str("not a JSON object")?,
            JsonErrorKind::Unexpected(byte) => write!(f, "invalid JSON: unexpected '{}'", byte.escape_ascii())?,
            JsonErrorKind::Control(byte) => write!(f, "invalid JSON: control character 0x{byte:02x} in a string")?,
            JsonErrorKind::Escape => f.write_str("invalid JSON: unknown escape")?,
            JsonErrorKind::Surrogate => f.write_str("invalid JSON: half of a surrogate pair")?,
            JsonErrorKind::Number => f.write_str("invalid JSON: malformed number")?,
            JsonErrorKind::Depth => write!(f, "JSON nested deeper than {DEPTH_MAX}")?,
            JsonErrorKind::Trailing => f.write_str("something follows the JSON object")?,
        }
        write!(f, " at byte {}", self.offset)
    }
}

impl std::error::Error for JsonError {}
