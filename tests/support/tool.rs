//! Programs that the tests need and `make tools` installs.

use std::env;
use std::path::{Path, PathBuf};

/// The folder that `make tools` fills: `TOOLS` of the environment, else `.tools` of the checkout.
fn tools() -> PathBuf {
    env::var("TOOLS").map_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools"), PathBuf::from)
}

/// A file below the folder of tools, such as `bin/nats`.
///
/// # Panics
/// When it is missing; the message says how to get it.
pub(crate) fn installed(path: &str) -> PathBuf {
    let path = tools().join(path);
    assert!(path.exists(), "{} is missing: run `make tools`", path.display());
    path
}

/// A program of the system, such as `kcat`.
///
/// # Panics
/// When no folder of `PATH` has it; the message says how to get it.
pub(crate) fn system(name: &str) -> PathBuf {
    first_of_system(&[name])
}

/// The first of these programs that the system has.
///
/// # Panics
/// When it has none; the message says how to get the first.
pub(crate) fn first_of_system(names: &[&str]) -> PathBuf {
    // Debian keeps servers where only root's PATH leads.
    let path = env::var("PATH").unwrap_or_default() + ":/usr/sbin";
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let programs = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    match programs.into_iter().find(|program| program.is_file()) {
        Some(program) => program,
        None => panic!("{} is missing: run `make tools`", names[0]),
    }
}
