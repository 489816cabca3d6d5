//! Why `devices` did not do what it was told.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::queue::nats::NatsError;
use crate::registry::nats::BucketError;
use crate::registry::{RecordError, RecordMistakes};

/// Why a subcommand of `devices` failed.
#[derive(Debug)]
pub enum DevicesError {
    /// `nats.servers` is not set.
    NoServers,
    /// The settings of NATS cannot be used.
    Settings(NatsError),
    /// No runtime, or a file that cannot be read.
    Io(io::Error),
    /// This file cannot be read.
    File(PathBuf, io::Error),
    /// The bucket does not do it.
    Bucket(BucketError),
    /// The record of the command line has mistakes.
    Record(Vec<RecordError>),
    /// The file has mistakes, and nothing was imported.
    Mistakes(PathBuf, RecordMistakes),
    /// The records without a mistake were imported; these have one.
    Partly(PathBuf, RecordMistakes),
    /// The import ended in the middle.
    Halfway {
        /// Records that are there for sure, from the first on.
        imported: usize,
        /// Records of the file.
        total: usize,
        /// The first that may not be there.
        next: String,
        /// Why.
        cause: BucketError,
    },
    /// These devices have no record.
    Unknown(Vec<String>),
}

impl DevicesError {
    /// Whether the configuration is to blame.
    pub(super) fn is_configuration(&self) -> bool {
        matches!(self, DevicesError::NoServers | DevicesError::Settings(_))
    }
}

impl From<BucketError> for DevicesError {
    fn from(error: BucketError) -> Self {
        DevicesError::Bucket(error)
    }
}

impl fmt::Display for DevicesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DevicesError::NoServers => f.write_str("nats.servers is not set, and the devices are in NATS KV"),
            DevicesError::Settings(error) => write!(f, "nats: {error}"),
            DevicesError::Io(error) => error.fmt(f),
            DevicesError::File(path, error) => write!(f, "{}: cannot be read: {error}", path.display()),
            DevicesError::Bucket(error) => error.fmt(f),
            DevicesError::Record(mistakes) => lines(f, mistakes.iter()),
            DevicesError::Mistakes(path, mistakes) => {
                mistakes_of(f, path, mistakes)?;
                if mistakes.0.iter().all(|mistake| matches!(mistake.error, RecordError::Syntax(_))) {
                    f.write_str(
                        "\nexpected TOML as in the file of a registry, JSON objects (one a line, or a list), or CSV whose \
                         first line names the columns",
                    )?;
                }
                f.write_str("\nnothing was imported; --keep-going imports the records without a mistake")
            }
            DevicesError::Partly(path, mistakes) => mistakes_of(f, path, mistakes),
            DevicesError::Halfway { imported, total, next, cause } => write!(
                f,
                "the first {imported} of {total} records are imported; from {next} on they may be or not: {cause}\n\
                 import the file again once the cause is gone: a record that is there already ends no session"
            ),
            DevicesError::Unknown(ids) => lines(f, ids.iter().map(|id| format!("{id}: no such device"))),
        }
    }
}

impl std::error::Error for DevicesError {}

fn mistakes_of(f: &mut fmt::Formatter<'_>, path: &std::path::Path, mistakes: &RecordMistakes) -> fmt::Result {
    lines(f, mistakes.to_string().lines().map(|line| format!("{}: {line}", path.display())))
}

fn lines<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: impl Iterator<Item = T>) -> fmt::Result {
    for (at, item) in items.enumerate() {
        let separator = if at == 0 { "" } else { "\n" };
        write!(f, "{separator}{item}")?;
    }
    Ok(())
}
