//! Reading and writing JSON (RFC 8259) without building a tree.
//!
//! A payload is read once: [`scan`] checks all of it and yields the members of its object as slices, so numbers keep
//! their digits and values are copied as they are. [`compact`] writes a value again where it cannot be copied: one that
//! spans lines, or one that has an object with the same key twice.
//!
//! Stricter than the RFC demands, so that whatever passes can be read by every reader of the queue: UTF-8 throughout,
//! escapes of surrogates only in pairs, and a [depth](DEPTH_MAX). More lenient: a byte order mark at the start.

mod compact;
mod error;
mod number;
mod scan;
mod tag;
mod text;

pub use compact::compact;
pub use error::{JsonError, JsonErrorKind};
pub use number::{whole_i64, whole_text_i64};
pub use scan::{Kind, Member, scan};
pub use text::{unescape, write_escaped, write_string};

/// How deep objects and arrays may be nested, the outermost included.
///
/// It bounds the state of the scanner to one machine word, and stays below what readers of envelopes accept (most stop
/// at 100 or more).
pub const DEPTH_MAX: usize = 64;
