//! Tells whether a file is still the same without reading it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::{fs, io};

/// Identity, size and times of a file. Symbolic links are followed, so that a Kubernetes ConfigMap, which changes the
/// link and not the file, is seen to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Fingerprint {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}
