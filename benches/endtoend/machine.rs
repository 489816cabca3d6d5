//! Where the benchmark runs.

use std::fmt;
use std::fs;
use std::thread;

use serde::Serialize;

/// The machine at the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Machine {
    /// Model of its processors.
    pub(crate) processor: String,
    /// Their number.
    pub(crate) processors: usize,
    /// Version of Linux.
    pub(crate) kernel: String,
    /// Load of the last minute.
    pub(crate) load: String,
}

impl Machine {
    /// This one.
    pub(crate) fn find() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let information = read("/proc/cpuinfo");
        let model = information.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            processor: model.map_or("unknown processor", |(_, name)| name).to_owned(),
            processors: thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg").split_whitespace().next().unwrap_or("?").to_owned(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, processors, kernel, load } = self;
        write!(f, "{processors} x {processor}, Linux {kernel}, load {load} at the start")
    }
}

/// Servers inherit the limit; a thousand connections take more descriptors than the usual soft limit of 1,024.
pub(crate) fn raise_file_limit() {
    // Where they do not suffice, connecting says so.
    let _unchanged = jetlinks_bridge::app::raise_open_files();
}
