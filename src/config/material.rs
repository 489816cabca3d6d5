//! Certificates, keys and credentials: a file, or the text itself.

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use crate::protocol::secret::Secret;

/// Longest file that is read, in bytes: hundreds of certificates.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// PEM text, or the file that holds it. The file is read when it is needed, so a renewed one is found.
#[derive(Clone, PartialEq, Eq)]
pub enum Material {
    /// Read from here each time.
    File(PathBuf),
    /// Written into the configuration.
    Text(Secret),
}

impl Material {
    /// The PEM text.
    ///
    /// # Errors
    /// The error of reading the file; one of more than 1 MiB, or not a regular file, is refused.
    pub fn read(&self) -> io::Result<Secret> {
        match self {
            Material::File(path) => {
                // Reading a pipe would wait for its writer.
                let metadata = fs::metadata(path)?;
                if !metadata.is_file() {
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
                }
                if metadata.len() > FILE_BYTES_MAX {
                    return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
                }
                fs::read_to_string(path).map(Secret::new)
            }
            Material::Text(text) => Ok(text.clone()),
        }
    }

    /// The file, when it is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Material::File(path) => Some(path),
            Material::Text(_) => None,
        }
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Material::File(path) => path.fmt(f),
            Material::Text(text) => text.fmt(f),
        }
    }
}
