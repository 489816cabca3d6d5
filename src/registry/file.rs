//! Devices in a TOML file that is read again when it changes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::{fs, io};

use super::catalog::Catalog;
use super::fingerprint::Fingerprint;
use super::mistake::RecordMistakes;
use super::parse::{self, Part};
use super::{Device, Lookup};
use crate::protocol::child;
use crate::protocol::id::DeviceId;

/// Why the file does not count.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(io::Error),
    /// It has mistakes.
    #[error("{0}")]
    Records(RecordMistakes),
}

/// Result of a look at the file.
#[derive(Debug)]
pub enum Reload {
    /// The same file as before, or one that was written within the last look and may still grow.
    Unchanged,
    /// Another version, in force at once.
    Replaced {
        /// Devices in it.
        devices: usize,
        /// Devices whose sessions must end: removed, disabled, re-keyed, of another product or gateway.
        ended: Vec<DeviceId>,
    },
    /// Another version that does not count; the one before stays in force. Said once for each version.
    Refused(FileError),
}

/// The devices of a file. Lookups take a shared lock for the time of one hash look-up.
#[derive(Debug)]
pub struct FileRegistry {
    path: PathBuf,
    product_secrets: bool,
    devices: RwLock<Arc<Catalog>>,
    seen: Mutex<FileState>,
}

/// Which version of the file is known, as far as [`FileRegistry::poll`] is concerned.
#[derive(Debug)]
struct FileState {
    /// The version last read, or refused.
    settled: Option<Fingerprint>,
    /// The version of the last look; read once it is the same at the next.
    last: Option<Fingerprint>,
}

impl FileRegistry {
    /// Reads the file. Takes some 100 ms for 100,000 devices.
    ///
    /// # Errors
    /// The file cannot be read, or has mistakes: all of them.
    pub fn open(path: &Path, product_secrets: bool) -> Result<Self, FileError> {
        // Before reading: a change during the reading must look like one afterwards.
        let seen = Fingerprint::of(path).map_err(FileError::Io)?;
        let devices = read(path, product_secrets)?;
        Ok(Self {
            path: path.to_owned(),
            product_secrets,
            devices: RwLock::new(Arc::new(devices)),
            seen: Mutex::new(FileState { settled: Some(seen), last: Some(seen) }),
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many devices it holds.
    pub fn len(&self) -> usize {
        self.devices().len()
    }

    /// Whether it holds no device.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many devices are such.
    pub fn count(&self, is_such: impl Fn(&Device) -> bool) -> usize {
        self.devices().devices().filter(|device| is_such(device)).count()
    }

    /// Ids of the devices that are such, in their order.
    pub fn ids(&self, is_such: impl Fn(&Device) -> bool) -> Vec<String> {
        let devices = self.devices();
        let mut ids: Vec<String> =
            devices.devices().filter(|device| is_such(device)).map(|device| device.id.to_string()).collect();
        ids.sort_unstable();
        ids
    }

    /// Looks a device up.
    pub fn device(&self, id: &str) -> Lookup {
        self.devices.read().unwrap_or_else(PoisonError::into_inner).device(id)
    }

    /// Looks a child up.
    pub fn child(&self, id: &str) -> child::Child {
        self.devices.read().unwrap_or_else(PoisonError::into_inner).child(id)
    }

    /// Looks whether the file has changed and reads it if so. Call it about once a second, from a thread that serves no
    /// devices: reading takes its time.
    ///
    /// A changed file is read only once two looks in a row found it the same, so that a file that somebody is still
    /// writing does not count as one with fewer devices.
    pub fn poll(&self) -> Reload {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let found = Fingerprint::of(&self.path);
        let fingerprint = found.as_ref().ok().copied();
        let is_quiet = seen.last == fingerprint;
        seen.last = fingerprint;
        if !is_quiet || seen.settled == fingerprint {
            return Reload::Unchanged;
        }
        seen.settled = fingerprint;
        if let Err(error) = found {
            return Reload::Refused(FileError::Io(error));
        }
        match read(&self.path, self.product_secrets) {
            Ok(next) => self.replace(next),
            Err(error) => Reload::Refused(error),
        }
    }

    fn replace(&self, next: Catalog) -> Reload {
        let next = Arc::new(next);
        let devices = next.len();
        let before = {
            let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *devices, Arc::clone(&next))
        };
        Reload::Replaced { devices, ended: before.ended_by(&next) }
    }

    fn devices(&self) -> Arc<Catalog> {
        Arc::clone(&self.devices.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn read(path: &Path, product_secrets: bool) -> Result<Catalog, FileError> {
    // Reading a pipe would wait for whoever writes into it.
    if !fs::metadata(path).map_err(FileError::Io)?.is_file() {
        return Err(FileError::Io(io::Error::new(io::ErrorKind::InvalidInput, "it is no file")));
    }
    let text = fs::read_to_string(path).map_err(FileError::Io)?;
    let records = parse::read(&text, product_secrets, Part::Whole);
    drop(text);
    records.catalog(product_secrets).map_err(FileError::Records)
}
