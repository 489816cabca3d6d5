//! Where the benchmark runs.

use std::fs;
use std::thread;

/// Processor, kernel and how busy it is.
pub(crate) fn describe() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let information = read("/proc/cpuinfo");
    let model = information.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, name)| name);
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let busy = load.split_whitespace().next().unwrap_or("?");
    format!("{processors} x {model}, Linux {}, load {busy} at the start", kernel.trim())
}

/// Servers inherit the limit; a thousand connections take more descriptors than the usual soft limit of 1,024.
pub(crate) fn raise_file_limit() {
    // Where they do not suffice, connecting says so.
    let _unchanged = jetlinks_bridge::app::raise_open_files();
}
