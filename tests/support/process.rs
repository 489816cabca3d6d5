//! Child processes that cannot outlive their test.

use std::fs::{self, File};
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::ptr;
use std::time::Duration;

use super::wait::{eventually, within};

/// How many of its last log lines a process shows when its test fails.
const SHOWN_LINES: usize = 15;

/// A running process. Dropped, it is killed by its id and waited for.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    watchdog: Child,
    log: Option<PathBuf>,
}

impl Process {
    /// Starts `command` with its output and errors in `log`, appended, and no input.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("the folder takes files");
        let errors = file.try_clone().expect("a file has a second handle");
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        Self::spawn(command, Some(log))
    }

    /// Starts `command` with all three streams as the caller set them; `log` is where its errors go, if to a file.
    pub(crate) fn spawn(command: &mut Command, log: Option<&Path>) -> Self {
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let watchdog = watch(child.id());
        Self { child, watchdog, log: log.map(Path::to_owned) }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its input, once, if it was piped.
    pub(crate) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Its output, once, if it was piped.
    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Its errors, once, if they were piped.
    pub(crate) fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// How it ended, or `None` while it runs.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Sends a signal. After SIGSTOP every thread stands still: on a busy machine some go on for a moment.
    pub(crate) fn signal(&self, signal: i32) {
        let id = libc::pid_t::try_from(self.child.id()).expect("process ids are positive and small");
        // SAFETY: kill takes two integers. The child was not waited for, so the id is still its own.
        let sent = unsafe { libc::kill(id, signal) };
        assert_eq!(sent, 0, "signal {signal} to {id}: {}", io::Error::last_os_error());
        if signal == libc::SIGSTOP {
            eventually("the process stands still", Duration::from_secs(60), || self.stands_still().then_some(()));
        }
    }

    /// Lets writes to files fail beyond that size from now on, as on a full disk; for as long as it runs.
    pub(crate) fn limit_file_bytes(&self, bytes: u64) {
        let id = libc::pid_t::try_from(self.child.id()).expect("process ids are positive and small");
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
        // SAFETY: prlimit reads one limit, which outlives the call. The child was not waited for.
        let done = unsafe { libc::prlimit(id, libc::RLIMIT_FSIZE, &raw const limit, ptr::null_mut()) };
        assert_eq!(done, 0, "limit of {id}: {}", io::Error::last_os_error());
    }

    fn stands_still(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.id())).expect("the process was not waited for");
        threads.flatten().all(|thread| {
            // The name before the state may hold anything but ends with the last parenthesis; a thread that ended is still.
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with(['T', 'Z', 'X']))
        })
    }

    /// Kills it as a crash would, and waits until it is gone.
    pub(crate) fn kill9(&mut self) {
        drop(self.child.kill());
        self.child.wait().expect("a child can be waited for");
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it still runs at the deadline.
    pub(crate) fn wait(&mut self, deadline: Duration) -> ExitStatus {
        eventually("the process ends", deadline, || self.ended())
    }

    /// As [`Process::wait`], but as a shell would tell it: the exit code, or 128 and the signal.
    pub(crate) fn exit_code(&mut self, deadline: Duration) -> i32 {
        let status = self.wait(deadline);
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
    }

    /// Asks it to end, and kills it when it does not by the deadline.
    pub(crate) fn stop(&mut self, deadline: Duration) {
        if self.ended().is_none() {
            self.signal(libc::SIGTERM);
            if within(deadline, || self.ended()).is_none() {
                self.kill9();
            }
        }
    }

    /// Stops one of its threads, the first of that name, and no other.
    ///
    /// # Panics
    /// When there is none, or this process may not do so.
    pub(crate) fn stop_thread(&self, name: &str) -> StoppedThread {
        let threads = fs::read_dir(format!("/proc/{}/task", self.id())).expect("the process was not waited for");
        let is_meant = |thread: &fs::DirEntry| {
            fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
        };
        let thread = threads.flatten().find(is_meant).unwrap_or_else(|| panic!("no thread {name}"));
        let id = thread.file_name().to_string_lossy().parse().expect("threads are named by numbers");
        StoppedThread::stop(id)
    }

    /// Whether it has a handler of its own for that signal by now; false once it has ended.
    pub(crate) fn catches(&self, signal: i32) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let caught = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigCgt:")?.trim(), 16).ok());
        caught.is_some_and(|caught| caught >> (signal - 1) & 1 == 1)
    }

    /// Resident memory, bytes; 0 once it has ended.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most memory that was resident so far, bytes; 0 once it has ended.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let kibibytes = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        kibibytes.unwrap_or_default() * 1024
    }
}

/// Has a write above the limit of files fail and not kill: a program of Go leaves a blocked signal blocked.
pub(crate) fn survive_file_limit(command: &mut Command) {
    let block = || {
        let mut signals = MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the set that the other two take.
        let blocked = unsafe {
            libc::sigemptyset(signals.as_mut_ptr());
            libc::sigaddset(signals.as_mut_ptr(), libc::SIGXFSZ);
            libc::sigprocmask(libc::SIG_BLOCK, signals.as_ptr(), ptr::null_mut())
        };
        if blocked == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec these functions may be called (signal-safety(7)); nothing is allocated.
    unsafe { command.pre_exec(block) };
}

/// A thread of a child that stands still until this is dropped, by the thread of the test that stopped it.
#[derive(Debug)]
pub(crate) struct StoppedThread {
    id: libc::pid_t,
    /// Of all threads only the one that attached may let go.
    _here: PhantomData<*const ()>,
}

impl StoppedThread {
    fn stop(id: libc::pid_t) -> Self {
        let nothing = ptr::null_mut::<libc::c_void>();
        for request in [libc::PTRACE_SEIZE, libc::PTRACE_INTERRUPT] {
            // SAFETY: neither request reads or writes memory of this process; the id is that of a thread of a child.
            let done = unsafe { libc::ptrace(request, id, nothing, nothing) };
            assert_eq!(done, 0, "ptrace {request} of {id}: {}", io::Error::last_os_error());
        }
        let stopped = Self { id, _here: PhantomData };
        stopped.wait();
        stopped
    }

    fn wait(&self) {
        let mut status = 0;
        // SAFETY: waitpid gets a pointer to an integer that outlives the call.
        unsafe { libc::waitpid(self.id, &raw mut status, libc::__WALL) };
    }
}

impl Drop for StoppedThread {
    fn drop(&mut self) {
        let nothing = ptr::null_mut::<libc::c_void>();
        // SAFETY: as above.
        let done = unsafe { libc::ptrace(libc::PTRACE_DETACH, self.id, nothing, nothing) };
        if done != 0 {
            // It was killed meanwhile, and keeps its process until it is waited for. It may not be dead yet.
            self.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The watchdog goes first: it must not kill whoever gets the id next.
        drop(self.watchdog.kill());
        drop(self.watchdog.wait());
        drop(self.child.kill());
        drop(self.child.wait());
        if let Some(log) = self.log.as_deref().filter(|_| std::thread::panicking()) {
            show_end(log);
        }
    }
}

/// Kills the process `id` when this process is gone, however it went: its end of the pipe is closed by the kernel.
fn watch(id: u32) -> Child {
    let script = r#"trap "" INT TERM; read -r line; kill -9 "$1""#;
    Command::new("sh")
        .args(["-c", script, "watchdog"])
        .arg(id.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("every system has sh")
}

#[expect(clippy::print_stderr, reason = "the reader of a failed test wants the server's own words")]
fn show_end(log: &Path) {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    eprintln!("{}:", log.display());
    for line in &lines[lines.len().saturating_sub(SHOWN_LINES)..] {
        eprintln!("  {line}");
    }
}
