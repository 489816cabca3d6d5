//! How an envelope travels.

/// How an envelope travels (CloudEvents' content modes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The value is the whole envelope.
    Structured,
    /// The value is `data`; the attributes travel beside it.
    Binary,
}
