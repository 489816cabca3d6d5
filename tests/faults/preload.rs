//! A library of one C file that is loaded into the bridge in front of libc.

use std::fs::{self, File};
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Bridge, Folder, Settings, bridge, tool};

/// The name that leads to the address of [`Preload::lead_to`]; no resolver knows it.
pub(crate) const NAME: &str = "queue.invalid";

/// The library, and the files that it reads.
pub(crate) struct Preload(Folder);

impl Preload {
    /// Compiles it.
    ///
    /// # Panics
    /// When there is no C compiler, or it does not take the file.
    pub(crate) fn build() -> Self {
        let preload = Self(Folder::new("preload"));
        preload.shift_clock(0);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/preload.c");
        let mut compiler = Command::new(tool::system("cc"));
        compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]);
        let output = compiler.arg(preload.library()).arg(source).arg("-ldl").output().expect("the compiler starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        preload
    }

    /// Starts a bridge with it, and waits until that is ready.
    pub(crate) fn start_bridge(&self, settings: &Settings) -> Bridge {
        let mut command = bridge::command();
        command.env("LD_PRELOAD", self.library()).env("FAULTS_CLOCK", self.clock());
        command.env("FAULTS_NAME", NAME).env("FAULTS_ADDRESS", self.address());
        Bridge::start_by(command, settings)
    }

    /// Puts the bridge's clock, not that of its timers, so many seconds ahead of the system's.
    pub(crate) fn shift_clock(&self, seconds: i64) {
        let clock = File::options().write(true).create(true).truncate(false).open(self.clock());
        // In its place: the bridge has mapped the file.
        let written = clock.and_then(|clock| clock.write_all_at(&seconds.to_ne_bytes(), 0));
        written.expect("the folder takes files");
    }

    /// Lets [`NAME`] lead to that address from now on.
    pub(crate) fn lead_to(&self, address: IpAddr) {
        let part = self.0.write("address.part", &address.to_string());
        fs::rename(part, self.address()).expect("the folder takes files");
    }

    fn library(&self) -> PathBuf {
        self.0.path().join("preload.so")
    }

    fn clock(&self) -> PathBuf {
        self.0.path().join("clock")
    }

    fn address(&self) -> PathBuf {
        self.0.path().join("address")
    }
}
