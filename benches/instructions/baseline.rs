//! The baseline: instructions of an earlier build, and the toolchain that made it.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

const HEAD: &str = "\
# Instructions per message of benches/instructions. `make bench-gate` compares with it and fails on 2 % more;
# `make bench-gate BASELINE=write` writes it anew. It counts for this toolchain only.

";

/// See the module.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Baseline {
    /// The toolchain that it counts for.
    pub(crate) toolchain: Toolchain,
    /// Instructions per message, by the name of the work.
    pub(crate) instructions: BTreeMap<String, u64>,
}

impl Baseline {
    /// Reads it.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Writes it.
    pub(crate) fn write(&self, path: &Path) -> Result<(), String> {
        let text = toml::to_string(self).map_err(|error| error.to_string())?;
        fs::write(path, format!("{HEAD}{text}")).map_err(|error| format!("{}: {error}", path.display()))
    }
}

/// Whatever makes other instructions of the same sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Toolchain {
    /// The compiler, as `rustc --version` says.
    rustc: String,
    /// The architecture.
    architecture: String,
    /// The C library, which copies bytes and gives memory.
    libc: String,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rustc, architecture, libc } = self;
        write!(f, "{rustc}, {architecture}, {libc}")
    }
}

impl Toolchain {
    /// That of this build and this machine.
    pub(crate) fn of_this_build() -> Result<Self, String> {
        let output = Command::new("rustc").arg("--version").output().map_err(|error| format!("rustc: {error}"))?;
        let rustc = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        // SAFETY: it takes nothing and gives a text that is part of the library.
        let libc = unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) };
        let architecture = std::env::consts::ARCH.to_owned();
        Ok(Self { rustc, architecture, libc: format!("glibc {}", libc.to_string_lossy()) })
    }

    /// The difference between the toolchain of the baseline and another, in words; `None`: they are the same.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        (self != other).then(|| format!("the baseline is of {self}, and this is {other}"))
    }
}
