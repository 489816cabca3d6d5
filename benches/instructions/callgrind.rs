//! A run under callgrind.

use std::env;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::profile::Profile;
use crate::workloads::Kind;

/// The function whose instructions count, with all that it calls; its name is that of [`COUNTED`].
#[inline(never)]
pub(crate) fn counted(work: &mut dyn FnMut()) {
    black_box(work)();
}

/// Name of [`counted`] for callgrind. The symbol ends in a hash.
pub(crate) const COUNTED: &str = "instructions::callgrind::counted*";

/// Instructions per message of a kind of work. Its profile stays in `folder`.
pub(crate) fn instructions(kind: Kind, folder: &Path) -> Result<u64, String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let profile = profile_path(kind, folder);
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--quiet", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(program)
        .args(["--work", kind.name])
        .arg(folder)
        .stdin(Stdio::null());
    // The environment lies on the stack, and a call may behave by it.
    command.env_clear().env("PATH", env::var_os("PATH").unwrap_or_default());
    let output = command.output().map_err(|error| format!("valgrind does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("{} failed: {}", kind.name, String::from_utf8_lossy(&output.stderr)));
    }
    let text = fs::read_to_string(&profile).map_err(|error| format!("{}: {error}", profile.display()))?;
    let total: u64 = total(&text).ok_or_else(|| format!("{} has no total", profile.display()))?;
    if total == 0 {
        return Err(format!("callgrind found no function {COUNTED}"));
    }
    let messages = (kind.steps * kind.messages) as u64;
    Ok((total + messages / 2) / messages)
}

/// The profile of the last run of a kind of work.
pub(crate) fn profile(kind: Kind, folder: &Path) -> Result<Profile, String> {
    let path = profile_path(kind, folder);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Profile::read(&text))
}

/// Where callgrind writes the profile of a kind of work.
fn profile_path(kind: Kind, folder: &Path) -> PathBuf {
    folder.join(format!("{}.callgrind", kind.name))
}

/// All instructions of a profile.
fn total(profile: &str) -> Option<u64> {
    profile.lines().rev().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
}
