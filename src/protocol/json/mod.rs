//! Reading and writing JSON (RFC 8259) without building a tree.
//!
//! A payload is read once: [`scan`] checks all of it and yields the members of its object as slices, so numbers keep
//! their digits and values are copied as they are. [`compact`] writes a value again where it cannot be copied: one that
//! spans lines, or one that has an object with the same key twice.
//!
//! Stricter than the RFC demands, so that whatever passes can be read by every reader of the queue: UTF-8 throughout,
//! escapes of surrogates only in pairs, and a [depth](DEPTH_MAX). More lenient: a byte order mark at the start.

mod compact;
mod number;
mod plain;
mod scan;
mod tag;
mod text;

pub use compact::compact;
pub use number::{whole_i64, whole_text_i64};
pub use scan::{Kind, Member, scan};
pub use text::{must_be_escaped, unescape, write_escaped, write_string};

/// Deepest nesting of objects and arrays, the outermost included.
///
/// It bounds the state of the scanner to one machine word, and stays below what readers of envelopes accept (most stop
/// at 100 or more).
pub const DEPTH_MAX: usize = 64;

/// Mistakes in a text that should be a JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonErrorKind {
    /// It is not UTF-8.
    #[error("invalid UTF-8")]
    Utf8,
    /// It ends too early.
    #[error("unexpected end of JSON")]
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
    /// More text follows the object.
    #[error("something follows the JSON object")]
    Trailing,
}

/// A mistake in a text that should be a JSON object, and its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {offset}")]
pub struct JsonError {
    /// The mistake.
    pub kind: JsonErrorKind,
    /// Index of the byte that is wrong, from 0.
    pub offset: usize,
}
