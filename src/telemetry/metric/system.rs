//! Numbers that the system keeps of the process and its threads: read from /proc whenever the page is.

use std::fs;
use std::path::Path;

use procfs::process::Process;

/// Name of a worker's thread, in front of its number.
const WORKER_THREAD: &str = "worker-";

/// Mount point of the control groups.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Limits of this size and above stand for none: version 1 of control groups writes its largest number.
const UNLIMITED_BYTES: u64 = 1 << 62;

/// Numbers of the process, under the names that the client libraries of Prometheus give them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ProcessNumbers {
    /// Time of the processor, all threads together.
    pub cpu_seconds: f64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// The soft limit of open file descriptors.
    pub max_fds: u64,
    /// Memory that is resident.
    pub resident_bytes: u64,
    /// Start, in seconds since 1970.
    pub start_seconds: f64,
    /// Threads.
    pub threads: u64,
}

impl ProcessNumbers {
    /// The numbers at this moment; `None` where /proc cannot be read.
    pub fn read() -> Option<Self> {
        let process = Process::myself().ok()?;
        let stat = process.stat().ok()?;
        let ticks_per_second = procfs::ticks_per_second() as f64;
        let booted = procfs::boot_time_secs().ok()? as f64;
        let (max_fds, _) = rlimit::Resource::NOFILE.get().ok()?;
        Some(Self {
            cpu_seconds: (stat.utime + stat.stime) as f64 / ticks_per_second,
            open_fds: process.fd_count().ok()? as u64,
            max_fds,
            resident_bytes: stat.rss * procfs::page_size(),
            start_seconds: booted + stat.starttime as f64 / ticks_per_second,
            threads: u64::try_from(stat.num_threads).ok()?,
        })
    }
}

/// Time of the processor that each worker's thread took, by the worker's number. A worker that has ended is not among them.
pub(super) fn worker_cpu_seconds() -> Vec<(usize, f64)> {
    let Ok(tasks) = Process::myself().and_then(|process| process.tasks()) else { return Vec::new() };
    let of_worker = |stat: procfs::process::Stat| {
        let number = stat.comm.strip_prefix(WORKER_THREAD)?.parse().ok()?;
        Some((number, (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64))
    };
    tasks.flatten().filter_map(|task| of_worker(task.stat().ok()?)).collect()
}

/// Memory that the control group of the process may use, in bytes; `None`: there is no limit.
pub fn memory_limit() -> Option<u64> {
    let groups = Process::myself().and_then(|process| process.cgroups()).ok()?.0;
    let limits = groups.iter().filter_map(|group| {
        if group.controllers.is_empty() {
            lowest(Path::new(CGROUPS), &group.pathname, "memory.max")
        } else if group.controllers.iter().any(|controller| controller == "memory") {
            lowest(&Path::new(CGROUPS).join("memory"), &group.pathname, "memory.limit_in_bytes")
        } else {
            None
        }
    });
    limits.min()
}

/// The lowest limit that a group and those above it have in the file of that name. A container sees its own group at the mount
/// point, whatever the group's path is outside.
fn lowest(mounted: &Path, group: &str, file: &str) -> Option<u64> {
    let own = Path::new(group.trim_start_matches('/'));
    let limits = own.ancestors().filter_map(|group| {
        let text = fs::read_to_string(mounted.join(group).join(file)).ok()?;
        text.trim().parse::<u64>().ok().filter(|bytes| *bytes < UNLIMITED_BYTES)
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_this_process_are_those_that_it_can_see() {
        let numbers = ProcessNumbers::read().expect("there is a /proc");
        let more: Vec<_> = (0..100).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let with_files = ProcessNumbers::read().expect("there is a /proc");
        // Other tests open and close some at the same time.
        assert!(with_files.open_fds > numbers.open_fds + 50, "{numbers:?} and {with_files:?}");
        drop(more);
        assert!(with_files.max_fds >= with_files.open_fds && with_files.threads > 1, "{with_files:?}");
        assert!((1 << 20..1 << 40).contains(&with_files.resident_bytes), "{with_files:?}");
        let now = procfs::boot_time_secs().unwrap() as f64 + uptime();
        assert!((now - 86_400.0..=now + 2.0).contains(&with_files.start_seconds), "{with_files:?} and {now}");
        let spin = |until: f64| while ProcessNumbers::read().is_some_and(|numbers| numbers.cpu_seconds < until) {};
        spin(with_files.cpu_seconds + 0.02);
    }

    fn uptime() -> f64 {
        fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap()
    }

    #[test]
    fn a_worker_is_known_by_the_name_of_its_thread() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let worker = std::thread::Builder::new().name("worker-1023".to_owned()).spawn(move || {
            let numbers = || worker_cpu_seconds().into_iter().find(|(number, _)| *number == 1023);
            while numbers().is_none_or(|(_, seconds)| seconds < 0.01) {}
            let _ended = stopped.recv();
        });
        drop(stop);
        worker.unwrap().join().expect("the thread finds itself");
        assert!(worker_cpu_seconds().iter().all(|(number, _)| *number != 1023));
    }

    #[test]
    fn the_limit_of_memory_is_the_lowest_of_a_group_and_those_above_it() {
        let mounted = std::env::temp_dir().join(format!("metric-cgroup-{}", std::process::id()));
        let write = |group: &str, text: &str| {
            fs::create_dir_all(mounted.join(group)).unwrap();
            fs::write(mounted.join(group).join("memory.max"), text).unwrap();
        };
        write("slice/bridge", "max\n");
        assert_eq!(lowest(&mounted, "/slice/bridge", "memory.max"), None);
        write("slice", "2000000\n");
        assert_eq!(lowest(&mounted, "/slice/bridge", "memory.max"), Some(2_000_000));
        write("slice/bridge", "1000000\n");
        assert_eq!(lowest(&mounted, "/slice/bridge", "memory.max"), Some(1_000_000));
        write("", "9223372036854771712\n");
        assert_eq!(lowest(&mounted, "/", "memory.max"), None, "that is none");
        write("", "3000000\n");
        assert_eq!(lowest(&mounted, "/somewhere/outside", "memory.max"), Some(3_000_000));
        fs::remove_dir_all(&mounted).unwrap();
    }
}
