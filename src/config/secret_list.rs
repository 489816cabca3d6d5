//! Several secrets, the first of which is the one in use.

use std::io;
use std::path::{Path, PathBuf};

use super::material::Material;
use crate::protocol::secret::Secret;

/// Secrets of a key, and the file that they are from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretList {
    secrets: Vec<Secret>,
    file: Option<PathBuf>,
    max: usize,
}

impl SecretList {
    /// At most `max` secrets, as they were read from `file` or from the configuration itself.
    pub(super) fn new(secrets: Vec<Secret>, file: Option<PathBuf>, max: usize) -> Self {
        Self { secrets, file, max }
    }

    /// The secrets as they were when the configuration was read; empty where the key is not set.
    pub fn secrets(&self) -> &[Secret] {
        &self.secrets
    }

    /// The file, when they are from one.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The secrets as their file has them at this moment.
    ///
    /// # Errors
    /// As of [`Material::read`]; a file without a secret, or with too many, is refused.
    pub fn read(&self) -> io::Result<Vec<Secret>> {
        let Some(file) = &self.file else { return Ok(self.secrets.clone()) };
        let text = Material::File(file.clone()).read()?;
        let secrets: Vec<_> = lines(text.expose()).map(Secret::new).collect();
        if secrets.is_empty() || secrets.len() > self.max {
            let expected = format!("it has {} lines with a secret; one to {} are expected", secrets.len(), self.max);
            return Err(io::Error::new(io::ErrorKind::InvalidData, expected));
        }
        Ok(secrets)
    }
}

/// Secrets of a file: one in each line that is not empty.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty())
}
