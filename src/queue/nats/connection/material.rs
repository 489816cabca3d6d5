//! Certificates, keys and credentials.

use std::path::PathBuf;
use std::{fmt, fs};

use crate::queue::nats::NatsError;

/// PEM text or credentials, or the file that holds them. `Debug` shows no text.
#[derive(Clone, PartialEq, Eq)]
pub enum NatsMaterial {
    /// Read from here.
    File(PathBuf),
    /// The text itself.
    Text(String),
}

impl NatsMaterial {
    /// The text.
    pub(super) fn read(&self) -> Result<String, NatsError> {
        match self {
            NatsMaterial::File(path) => {
                fs::read_to_string(path).map_err(|error| NatsError::Unreadable(path.clone(), error.kind()))
            }
            NatsMaterial::Text(text) => Ok(text.clone()),
        }
    }
}

impl fmt::Debug for NatsMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NatsMaterial::File(path) => path.fmt(f),
            NatsMaterial::Text(_) => f.write_str("<redacted>"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_does_not_show_itself() {
        assert_eq!(format!("{:?}", NatsMaterial::Text("seed".to_owned())), "<redacted>");
    }
}
