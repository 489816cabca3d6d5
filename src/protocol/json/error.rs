//! Why a text is no JSON object.

use super::DEPTH_MAX;

/// What is wrong with a text that should be a JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonErrorKind {
    /// It is not UTF-8.
    #[error("invalid UTF-8")]
    Utf8,
    /// It ends too early.
    #[error("JSON that ends too early")]
    End,
    /// It is JSON so far, and not an object.
    #[error("not a JSON object")]
    NotObject,
    /// A byte that cannot stand there.
    #[error("invalid JSON: unexpected '{}'", .0.escape_ascii())]
    Unexpected(u8),
    /// A control character inside a string.
    #[error("invalid JSON: control character 0x{0:02x} in a string")]
    Control(u8),
    /// An escape that does not exist.
    #[error("invalid JSON: unknown escape")]
    Escape,
    /// Half of a surrogate pair.
    #[error("invalid JSON: half of a surrogate pair")]
    Surrogate,
    /// A number that does not follow the grammar, such as `01` or `1.`.
    #[error("invalid JSON: malformed number")]
    Number,
    /// More than [`DEPTH_MAX`] objects and arrays inside each other.
    #[error("JSON nested deeper than {DEPTH_MAX}")]
    Depth,
    /// Something follows the object.
    #[error("something follows the JSON object")]
    Trailing,
}

/// Why a text is no JSON object, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {offset}")]
pub struct JsonError {
    /// What is wrong.
    pub kind: JsonErrorKind,
    /// Index of the byte that is wrong, from 0.
    pub offset: usize,
}
