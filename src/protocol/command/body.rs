//! What a command carries.

/// The payload of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandBody {
    /// Members of the JSON object that the device gets, each with a comma before it.
    Members(String),
    /// Bytes as they are, for `DIRECT`.
    Raw(Vec<u8>),
}
