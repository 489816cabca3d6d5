//! Programs of others.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;

use crate::support::tool;

/// A file of this folder of tests.
pub(crate) fn own(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contracts").join(path)
}

/// The published documents.
pub(crate) fn published() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schemas")
}

/// Python with the packages of the tests.
pub(crate) fn python(script: &str) -> Command {
    let mut command = Command::new(tool::installed("venv/bin/python"));
    command.arg("-B").arg(own(script));
    command
}

/// Runs a program to its end, which must be a good one; the lines of its output.
///
/// # Panics
/// When it fails, with what it said.
pub(crate) fn lines(command: &mut Command, input: &str) -> Vec<Value> {
    let output = run(command, input);
    let error = String::from_utf8_lossy(&output.1);
    assert!(output.0, "{command:?}: {error}");
    output.2.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Whether a program ends well, what it said on stderr, and its output.
pub(crate) fn run(command: &mut Command, input: &str) -> (bool, Vec<u8>, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
    // Both pipes may be full at a time.
    let writing = thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    (output.status.success(), output.stderr, String::from_utf8_lossy(&output.stdout).into_owned())
}
